# An environment in which `make run` and `make test` work from nothing, as a user without rights.
#   docker build -t robustbench-sgdm . && docker run --rm -it robustbench-sgdm make test
FROM python:3.12-slim-bookworm
# Debian removes old versions, so pinned ones would stop building.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends build-essential chromium git make \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home user
# hadolint ignore=DL3066
USER user
WORKDIR /home/user/robustbench-sgdm
COPY --chown=user . .
RUN make .venv/installed
CMD ["make", "run"]
