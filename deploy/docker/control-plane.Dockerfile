# The control plane: `xds serve`, `xds bootstrap` and `xds certgen`.
#
#   docker build -f deploy/docker/control-plane.Dockerfile -t xds-ingress .      (from the root of the repository)

ARG PYTHON=3.11-slim-bookworm

FROM docker.io/library/python:${PYTHON} AS build
WORKDIR /src
RUN python -m venv /opt/xds
# What changes seldom comes first: a change of ours installs no library anew.
COPY requirements.lock pyproject.toml README.md LICENSE ./
COPY xds ./xds
RUN /opt/xds/bin/pip install --no-cache-dir --disable-pip-version-check --constraint requirements.lock . \
    && /opt/xds/bin/pip uninstall --yes pip setuptools

FROM docker.io/library/python:${PYTHON}
COPY --from=build /opt/xds /opt/xds
ENV PATH=/opt/xds/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 65532:65532
EXPOSE 18000 10254
ENTRYPOINT ["xds"]
CMD ["serve"]
