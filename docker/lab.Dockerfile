# What a host of the lab has beside handover: the base on which docker/Dockerfile then builds the lab's images, so that
# the packages are installed once and not for every new binary.
#
#   (default)       a host: cron, a syslog, SQLite, and what it takes to compare two trees attribute for attribute
#   WITH=databases  the same with PostgreSQL 15, its pgbench, MariaDB 10.11, and nginx as a service

ARG BASE
FROM ${BASE}
ARG WITH=
RUN echo 'Acquire::Retries "3";' >/etc/apt/apt.conf.d/80retries \
    && apt-get update \
    && apt-get install -y --no-install-recommends \
        acl attr busybox-syslogd cron iproute2 libcap2-bin openssh-client openssh-server procps rsync sqlite3 tini tzdata \
    && case "$WITH" in \
        '') ;; \
        databases) apt-get install -y --no-install-recommends mariadb-server nginx-light postgresql-15 postgresql-client-15 ;; \
        *) echo "WITH=$WITH: unknown" >&2; exit 1 ;; \
    esac \
    && rm -rf /var/lib/apt/lists/*
COPY host manifest /usr/local/bin/
