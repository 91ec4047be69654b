# qhybrid for processors: docker build -t qhybrid . && docker run --rm -v "$PWD:/work" qhybrid demo
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
RUN useradd --create-home user
USER user
WORKDIR /work
ENTRYPOINT ["qhybrid"]
CMD ["--help"]
