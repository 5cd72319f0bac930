# Gateway and worker: one image, two commands. The same file builds for x86-64 and Arm; everything is installed from wheels.
FROM public.ecr.aws/docker/library/python:3.13-slim-bookworm

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /srv

# Before the code, so that a change of the code leaves this layer alone.
COPY requirements/service.txt requirements.txt
RUN pip install --no-cache-dir --disable-pip-version-check \
    --require-hashes --no-deps --only-binary :all: -r requirements.txt

# .dockerignore is an allow-list: the folder holds what the two import, no more.
COPY llm_fleet llm_fleet
# The root file system is read-only when it runs: compiled here, or at every start.
RUN python -m compileall -q llm_fleet

USER 65532:65532
# ECS asks the load balancer and the instance asks systemd whether it lives.
HEALTHCHECK NONE
ENTRYPOINT ["python", "-m"]
CMD ["llm_fleet.gateway"]
