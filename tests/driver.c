/* Stands for NVIDIA's driver on a machine without one. Compiled with -DCARDS, -DMAJOR, -DMINOR,
   -DCUDA and -DSTATUS, it answers what roadseg asks; of all else it says that there is no device. */
#define NO_DEVICE 100
#define ANSWERS(name) int name(void) { return NO_DEVICE; }

static int put(int *place, int value) { *place = value; return 0; }

int cuInit(unsigned flags) { return STATUS; }
int cuDriverGetVersion(int *version) { return put(version, CUDA); }
int cuDeviceGetCount(int *count) { return put(count, GPUS); }
int cuDeviceGet(int *device, int index) { return put(device, index); }
int cuDeviceGetAttribute(int *value, int which, int device) {
    return put(value, which == 75 ? MAJOR : which == 76 ? MINOR : 0);
}
int cuDeviceGetName(char *name, int size, int device) {
    const char *given = "NVIDIA Test";
    int i = 0;
    while ((name[i] = given[i])) i++;
    return 0;
}

/* What the provider's library links of the driver and of NVML. */
ANSWERS(cuCtxCreate_v4) ANSWERS(cuCtxDestroy_v2) ANSWERS(cuCtxGetCurrent)
ANSWERS(cuCtxPopCurrent_v2) ANSWERS(cuCtxPushCurrent_v2) ANSWERS(cuCtxSetCurrent)
ANSWERS(cuDestroyExternalMemory) ANSWERS(cuDestroyExternalSemaphore)
ANSWERS(cuExternalMemoryGetMappedBuffer) ANSWERS(cuGetErrorString)
ANSWERS(cuImportExternalMemory) ANSWERS(cuImportExternalSemaphore)
ANSWERS(cuSignalExternalSemaphoresAsync) ANSWERS(cuStreamGetCtx)
ANSWERS(cuWaitExternalSemaphoresAsync)
ANSWERS(nvmlErrorString) ANSWERS(nvmlInit_v2) ANSWERS(nvmlShutdown)
ANSWERS(nvmlSystemGetDriverVersion)
