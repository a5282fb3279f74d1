"""Every exception that roadseg raises on purpose.

A message has three parts: what we got, what we need, what to do. The command line prints it as one
line and exits with 1; any other exception is a bug and shows its traceback.
"""


class RoadsegError(Exception):
    """Base of all errors a user can cause and mend."""


class ConfigError(RoadsegError):
    """A setting, or a combination of settings, that cannot be used."""


class DatasetError(RoadsegError):
    """A data set that is missing, incomplete or inconsistent."""


class VideoError(RoadsegError):
    """A video that cannot be read or written."""


class NoFrames(VideoError):
    """A video, or a part of one, without a frame in it."""


class PictureError(RoadsegError):
    """A picture that cannot be read, or an array that is none."""


class OutputError(RoadsegError):
    """A file that cannot be written."""


class OutputBusy(OutputError):
    """A file that another run is writing."""


class ServerError(RoadsegError):
    """An address at which no page can be served."""


class ModelFileError(RoadsegError):
    """A file that should hold a model and does not, or not one of ours."""


class BackendUnavailable(RoadsegError):
    """A runtime that is not installed or cannot start on this machine."""


class ClusterError(RoadsegError):
    """A cluster that cannot be reached, or a machine in it that cannot label."""


class ExportError(RoadsegError):
    """A model that could not be exported, or whose export does not match it."""


class BenchError(RoadsegError):
    """A measurement that cannot be made, or records that cannot be compared."""


class PeerLost(RoadsegError):
    """A training run of several processes that lost one of them."""
