# The image of a served model.
#
#   docker build -t d2v-serve .                                # for CPUs
#   docker build -t d2v-serve:gpu --build-arg DEVICE=gpu .     # for NVIDIA GPUs: `docker run --gpus all ...`
#
# The model is not part of it. It comes from a registry, or from a folder:
#
#   docker run -p 127.0.0.1:5001:5001 -e MLFLOW_TRACKING_URI=http://mlflow:5000 d2v-serve models:/d2v-vision@champion
#   docker run -p 127.0.0.1:5001:5001 -v "$PWD/data/06_models/vision/glyphs/encoder:/model:ro" d2v-serve /model

ARG PYTHON_VERSION=3.12

FROM python:${PYTHON_VERSION}-slim-bookworm AS packages
ARG DEVICE=cpu
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy DS_BUILD_OPS=0
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
WORKDIR /build
COPY pyproject.toml requirements.lock README.md LICENSE ./
COPY pipelines pipelines
COPY src src
# The locked torch is built for CUDA. That for CPUs has the same version and other files, hence other hashes.
RUN pip install --no-cache-dir uv==0.13.9 \
    && python -m venv /opt/d2v \
    && case "$DEVICE" in \
        gpu) cp requirements.lock constraints.txt; options=() ;; \
        cpu) sed -e '/^ *--hash=/d' -e 's/ \\$//' requirements.lock > constraints.txt; options=(--torch-backend cpu) ;; \
        *) echo "DEVICE is cpu or gpu, not $DEVICE" >&2; exit 2 ;; \
    esac \
    && uv pip install --no-cache --python /opt/d2v/bin/python --constraints constraints.txt "${options[@]}" '.[s3]'

FROM python:${PYTHON_VERSION}-slim-bookworm
COPY --from=packages /opt/d2v /opt/d2v
RUN useradd --create-home --uid 10001 d2v
USER 10001
WORKDIR /home/d2v
ENV PATH=/opt/d2v/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    D2V_SERVE_HOST=0.0.0.0 \
    D2V_SERVE_PORT=5001 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
EXPOSE 5001
HEALTHCHECK --start-period=60s --interval=10s --timeout=5s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(f'http://127.0.0.1:{os.environ[\"D2V_SERVE_PORT\"]}/ping', timeout=4)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["d2v", "serve"]
CMD ["models:/d2v-vision@champion"]
