# The image of Tocsin: docs/deploy.md. Both stages begin from the Python that constraints.txt is made for.

FROM python:3.11.17-slim-trixie@sha256:45037981b62b34b44602584fccbc4d884d5f7dc92c7ee86bb38a698a79fe1e51 AS build
ENV PATH=/opt/tocsin/bin:$PATH PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
RUN python -m venv /opt/tocsin
# What is pinned, with its hashes and as wheels alone: nothing is resolved, nothing is compiled.
COPY constraints.txt ./
RUN pip install --require-hashes --no-deps --only-binary=:all: -r constraints.txt
COPY pyproject.toml MANIFEST.in README.md CHANGELOG.md LICENSE __init__.py errors.py py.typed ./
COPY detector ./detector
COPY models ./models
COPY pipelines ./pipelines
COPY thresholds ./thresholds
COPY deploy/prune.py ./
RUN pip install --no-deps --no-build-isolation . && pip check && python prune.py

FROM python:3.11.17-slim-trixie@sha256:45037981b62b34b44602584fccbc4d884d5f7dc92c7ee86bb38a698a79fe1e51
RUN groupadd --gid 10001 tocsin \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/tocsin --shell /usr/sbin/nologin tocsin \
 && install --directory --owner=10001 --group=10001 --mode=0700 /var/lib/tocsin
COPY --from=build /opt/tocsin /opt/tocsin
ENV PATH=/opt/tocsin/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
# Model versions, the signing key, and compiled kernels (~/.cache); everything else may be read-only.
WORKDIR /var/lib/tocsin
VOLUME ["/var/lib/tocsin"]
EXPOSE 9469
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=3 \
  CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:9469/-/healthy', timeout=4)"]
ENTRYPOINT ["tocsin"]
CMD ["run", "--config", "/etc/tocsin/tocsin.toml"]
