# The last stage, which `docker build .` makes, is for NVIDIA cards; `--target cpu` is for machines without one.
# Weights are never in the image: they belong into the volume /models. docs/docker.md says how to use all of this.

# Any Debian or Ubuntu with Python 3.11 or later. CUDA's libraries come with torch, the driver with the host.
ARG BASE_IMAGE=debian:bookworm-slim

FROM ${BASE_IMAGE} AS python
# Versions are those of the distribution's release; pinned ones vanish from its mirrors.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates python3 \
    && rm -rf /var/lib/apt/lists/*
ENV PATH=/opt/wan2-i2v/bin:$PATH

FROM python AS packages
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv /opt/wan2-i2v
WORKDIR /build
# Where torch comes from: empty is pip's own index, whose Linux builds bring CUDA along.
ARG TORCH_INDEX=""
COPY constraints.txt ./
# The secret `pip` is a pip.conf, for networks that have an index of their own; without it pip does as it always does.
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    pip install --no-cache-dir -c constraints.txt ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY src src
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    pip install --no-cache-dir -c constraints.txt ".[heif,s3]"

FROM packages AS packages-cpu
RUN python -c "import sys, torch; sys.exit(torch.version.cuda and \
    'torch came with CUDA: give --build-arg TORCH_INDEX=<the index of CPU builds that the start page of pytorch.org names>')"

FROM python AS runtime
LABEL org.opencontainers.image.title="wan2-i2v" \
      org.opencontainers.image.description="A picture and a prompt become a verified video, with Wan2.2 I2V A14B" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="0.1.0"
# Any user may be given at run time (docker run --user), so the places to write to are everybody's, as /tmp is.
RUN useradd --uid 1000 --home-dir /tmp --no-create-home --shell /usr/sbin/nologin wan2 \
    && install -d -m 1777 /models /content/ComfyUI/input /content/ComfyUI/output \
    && ln -s /content/ComfyUI /app
ENV HOME=/tmp \
    USER=wan2 \
    HF_HOME=/models/huggingface \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    WAN2_I2V_MODELS=/models \
    WAN2_I2V_MODELS_FILE=/models/models.toml \
    WAN2_I2V_CACHE=/models/cache
# The old container's working directory: input/ and output/ are in it, and results are named by it.
WORKDIR /content/ComfyUI
COPY generate_video.py ./
VOLUME ["/models"]
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=10s --start-period=120s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen('http://127.0.0.1:%s/healthz' % os.environ.get('WAN2_I2V_PORT', '8080'), timeout=8)"]
CMD ["wan2-i2v", "serve"]

FROM runtime AS cpu
COPY --from=packages-cpu /opt/wan2-i2v /opt/wan2-i2v
USER 1000:1000

FROM runtime AS cuda
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=packages /opt/wan2-i2v /opt/wan2-i2v
USER 1000:1000
