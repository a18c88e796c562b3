# The example project, for compose.yaml. Installs the checkout itself, as an ordinary user would run it.
FROM python:3.13-slim

ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1

WORKDIR /app
COPY pyproject.toml hatch_build.py constraints.txt README.md LICENSE ./
COPY synchro synchro
COPY synchro_tasks synchro_tasks
# pip before 25.1 does not know --group.
RUN pip install --upgrade "pip>=25.1" \
    && pip install --constraint constraints.txt --group demo ".[celery,flower,postgres,progress]"

COPY example example
WORKDIR /app/example
# A volume takes over the owner of the folder that it is mounted on.
RUN useradd --create-home synchro && install --directory --owner=synchro /home/synchro/flower
USER synchro
