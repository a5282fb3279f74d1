# The base install: roadseg on a CPU, without PyTorch.
FROM python:3.13-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY roadseg roadseg
COPY benchmarks/loop.py benchmarks/loop.py
COPY weights weights
RUN python -m venv /opt/roadseg && /opt/roadseg/bin/pip install --no-cache-dir .

FROM python:3.13-slim
COPY --from=build /opt/roadseg /opt/roadseg
ENV PATH=/opt/roadseg/bin:$PATH \
    XDG_CACHE_HOME=/tmp
# A number, as Kubernetes' runAsNonRoot asks for.
RUN useradd --create-home --uid 10001 roadseg
USER 10001
WORKDIR /videos
CMD ["roadseg", "--help"]
