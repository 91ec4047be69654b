# qhybrid for processors:
#   docker build -t qhybrid .
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/work" qhybrid demo
# As yourself (--user), so that it may write to your folder, and what it writes is yours.
# Two stages: the compiler that builds the kernels does not stay in the image.
FROM python:3.11-slim-bookworm AS build
RUN apt-get update \
 && apt-get install --yes --no-install-recommends g++ \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY pyproject.toml constraints.txt hatch_build.py README.md LICENSE ./
COPY qhybrid qhybrid
COPY circuits circuits
COPY noise_profiles noise_profiles
COPY runs runs
RUN python -m venv /opt/qhybrid
# torch first, by its exact version and from the index of builds for processors: other builds bring gigabytes of CUDA.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN /opt/qhybrid/bin/pip install --no-cache-dir --constraint constraints.txt --extra-index-url "$TORCH_INDEX" \
    "$(sed -n 's/^torch==/torch==/p' constraints.txt)"
RUN QHYBRID_BUILD_KERNEL=1 /opt/qhybrid/bin/pip install --no-cache-dir --constraint constraints.txt .

FROM python:3.11-slim-bookworm
# libexpat is what rasterio's wheels expect of the system.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends libexpat1 \
 && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/qhybrid /opt/qhybrid
ENV PATH=/opt/qhybrid/bin:$PATH
# A number, which Kubernetes can tell from root's; whoever runs the image may write to the caches in HOME.
RUN useradd --uid 1000 --create-home user && chmod 1777 /home/user
ENV HOME=/home/user USER=user
USER 1000
WORKDIR /work
ENTRYPOINT ["qhybrid"]
CMD ["--help"]
