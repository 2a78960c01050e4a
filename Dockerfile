# Serving on a CPU: docker build --target cpu -t vssl . && docker run -p 8000:8000 -v "$PWD/bundle:/bundle:ro" vssl
FROM python:3.11-slim-bookworm AS build-base
RUN python -m venv /opt/vssl
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE NOTICE ./
COPY core core
COPY gallery gallery
COPY client client
COPY server server
COPY training training
COPY export export

# Serving on an NVIDIA GPU: docker build --target gpu -t vssl:gpu . && docker run --gpus all -p 8000:8000 -v "$PWD/bundle:/bundle:ro" vssl:gpu
# CUDA, cuDNN and TensorRT come as wheels; the driver is the host's.
FROM build-base AS build-gpu
ARG EXTRAS=gpu,objects
RUN /opt/vssl/bin/pip install --no-cache-dir --disable-pip-version-check -c constraints.txt ".[$EXTRAS]" \
    'onnxruntime-gpu[cuda,cudnn]~=1.31.0' 'tensorrt-cu13-libs~=10.13'

FROM python:3.11-slim-bookworm AS gpu
COPY --from=build-gpu /opt/vssl /opt/vssl
RUN useradd --system --no-create-home --uid 10001 vssl && install --directory --owner vssl /cache
USER 10001
# TensorRT's engines are kept in /cache.
VOLUME /cache
ENV PATH=/opt/vssl/bin:$PATH VSSL_HOST=0.0.0.0 XDG_CACHE_HOME=/cache \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility PACKAGES=/opt/vssl/lib/python3.11/site-packages
ENV LD_LIBRARY_PATH=$PACKAGES/nvidia/cu13/lib:$PACKAGES/nvidia/cudnn/lib:$PACKAGES/tensorrt_libs
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=300s --retries=3 CMD ["python", "-m", "vssl_server.process.healthcheck"]
ENTRYPOINT ["vssl", "serve"]
CMD ["/bundle"]

FROM build-base AS build-cpu
# With galleries: docker build --target cpu --build-arg EXTRAS=server,objects,postgres -t vssl .
ARG EXTRAS=server,objects
RUN /opt/vssl/bin/pip install --no-cache-dir --disable-pip-version-check -c constraints.txt ".[$EXTRAS]"

FROM python:3.11-slim-bookworm AS cpu
COPY --from=build-cpu /opt/vssl /opt/vssl
RUN useradd --system --no-create-home --uid 10001 vssl
USER 10001
ENV PATH=/opt/vssl/bin:$PATH VSSL_HOST=0.0.0.0
EXPOSE 8000
# It reads the same variables as the server, TLS and another port included; the flag --port it can't see.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["python", "-m", "vssl_server.process.healthcheck"]
ENTRYPOINT ["vssl", "serve"]
CMD ["/bundle"]
