# syntax=docker/dockerfile:1
# Sfumato on the CPU. docs/images.md says how to build it, run it and pin its base.
FROM python:3.11.16-slim-trixie AS python

# A layer that lasts until pyproject.toml or requirements.lock changes.
FROM python AS dependencies
WORKDIR /build
COPY pyproject.toml requirements.lock ./
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m venv --without-pip /opt/sfumato \
    && pip --python /opt/sfumato/bin/python install --no-deps --index-url "$TORCH_INDEX" \
        --constraint requirements.lock torch
RUN --mount=type=cache,target=/root/.cache/pip \
    python -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; print(*p['dependencies'], *p['optional-dependencies']['local'], sep='\n')" > requirements.txt \
    && pip --python /opt/sfumato/bin/python install \
        --constraint requirements.lock --requirement requirements.txt

FROM python AS wheel
WORKDIR /build
COPY pyproject.toml README.md LICENSE ./
COPY pipelines pipelines
COPY serve serve
RUN --mount=type=cache,target=/root/.cache/pip \
    pip wheel --no-deps --wheel-dir /wheel .

FROM python AS runtime
# tini stops `up` at any moment and reaps what Ray leaves; KubeRay's probes call bash, grep and wget.
# A login shell, which KubeRay's operator can be set to use, takes its PATH from /etc/profile.
RUN apt-get update \
    && apt-get install -y --no-install-recommends tini=0.19.0-* wget=1.25.0-* \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --user-group --no-log-init --home-dir /data sfumato \
    && install -d -m 0750 -o sfumato -g sfumato /data \
    && echo "PATH=/opt/sfumato/bin:\$PATH" > /etc/profile.d/sfumato.sh
COPY --from=dependencies /opt/sfumato /opt/sfumato
RUN --mount=type=bind,from=wheel,source=/wheel,target=/wheel \
    pip --python /opt/sfumato/bin/python install --no-cache-dir --no-deps --no-index /wheel/*.whl

# `sfumato up` sets Ray's variables by itself. Here they are for a cluster of other nodes.
ENV PATH=/opt/sfumato/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    SFUMATO_HOST=0.0.0.0 \
    SFUMATO_DATA_DIR=/data \
    FORWARDED_ALLOW_IPS="" \
    RAY_USAGE_STATS_ENABLED=0 \
    RAY_SERVE_PROXY_USE_GRPC=1 \
    RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH=1073741824 \
    RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP=0 \
    RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH=serve.deployments.proxy:layers

ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Sfumato" \
      org.opencontainers.image.description="Serves text-to-image diffusion models on Ray Serve, on the CPU" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.base.name="docker.io/library/python:3.11.16-slim-trixie"

WORKDIR /srv
VOLUME /data
EXPOSE 8000
USER 10001:10001
HEALTHCHECK --interval=10s --timeout=5s --start-period=3m \
    CMD ["python", "-I", "-c", "import os, urllib.request as u; u.build_opener(u.ProxyHandler({})).open('http://127.0.0.1:' + os.environ.get('SFUMATO_PORT', '8000') + '/health', timeout=4)"]
ENTRYPOINT ["tini", "--", "sfumato"]
CMD ["up"]
