# The steps are the ones that a checkout runs: `make setup` and `make page`. Nothing else knows how to build Affinage.
FROM python:3.13-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends make && rm -rf /var/lib/apt/lists/*
WORKDIR /app
# cpu, cu130, cu126: the machine that builds an image seldom has the card that will run it.
ARG AFFINAGE_TORCH=cpu
ARG AFFINAGE_EXTRAS=train,qlora
ENV AFFINAGE_TORCH=$AFFINAGE_TORCH AFFINAGE_EXTRAS=$AFFINAGE_EXTRAS PIP_NO_CACHE_DIR=1
# First what changes seldom, so that an edit of the code does not install everything again.
COPY Makefile ./
COPY scripts scripts
COPY backend/pyproject.toml backend/hatch_build.py backend/constraints.txt backend/
COPY backend/app/__init__.py backend/app/__init__.py
COPY frontend/package.json frontend/package-lock.json frontend/
RUN make setup
COPY frontend frontend
RUN make page

FROM python:3.13-slim
WORKDIR /app
# The trainer compiles its kernels for the processor that it finds; without a compiler it is slower.
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
RUN useradd --create-home --uid 1000 affinage && install -d -o affinage -g affinage -m 700 /data
COPY --from=build /app/.venv .venv
COPY --from=build /app/frontend/dist frontend/dist
COPY backend backend
ENV PATH=/app/.venv/bin:$PATH AFFINAGE_DATA_DIR=/data PYTHONDONTWRITEBYTECODE=1
USER affinage
VOLUME /data
EXPOSE 8000
# Without compose.yaml the server stays on the container's loopback: it refuses any other address (see SECURITY.md).
CMD ["affinage", "serve"]
