# The mail server of the lab: exim on a host of the lab. `mail-server` starts it.

ARG BASE
FROM ${BASE}
RUN apt-get update \
    && apt-get install -y --no-install-recommends exim4-daemon-light openssl \
    && rm -rf /var/lib/apt/lists/*
COPY exim4.conf /etc/exim4/exim4.conf
COPY mail-server /usr/local/bin/
