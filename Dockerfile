# The image of all services: one program, `stocktide`, whose subcommands are the services.
#
#   docker build -t stocktide .
#
# Three things are worth knowing:
# - The dependencies are a layer of their own, built from the manifests alone: a change of the sources does not build them again.
# - The final image holds the program, the few shared libraries that it needs, and certificates: no shell, no package
#   manager. The files are Debian's, and their packages stand in /var/lib/dpkg/status.d, where scanners look for them.
# - PROGRAM=prebuilt takes a program that was built elsewhere (deploy/bin/stocktide) instead of building it: releases do that.

ARG RUST_IMAGE=rust:1.95-slim-bookworm
ARG DEBIAN_IMAGE=debian:bookworm-slim
ARG PROGRAM=built

# The manifests, and an empty source where cargo wants one. This stage runs at each change, but its result stays the same, and
# with it the layers below.
FROM ${DEBIAN_IMAGE} AS manifests
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
WORKDIR /src
COPY . .
RUN find . -name Cargo.toml -o -name Cargo.lock | while read -r file; do \
      mkdir -p "/manifests/$(dirname "$file")"; cp "$file" "/manifests/$file"; \
    done; \
    find . -path '*/src/main.rs' -o -path '*/src/lib.rs' -o -path '*/tests/*.rs' -o -path '*/benches/*.rs' | while read -r file; do \
      mkdir -p "/manifests/$(dirname "$file")"; echo 'fn main() {}' > "/manifests/$file"; \
    done

FROM ${RUST_IMAGE} AS dependencies
# What the C parts (librdkafka, zstd, xz, zlib) are built with. OpenSSL is Debian's, a shared library: its updates come with it.
RUN apt-get update && apt-get install -y --no-install-recommends g++ make perl pkg-config libssl-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY --from=manifests /manifests .
# What is built once and run often may take longer to build.
ENV CARGO_PROFILE_RELEASE_LTO=thin CARGO_PROFILE_RELEASE_CODEGEN_UNITS=4
RUN cargo build --locked --release --package stocktide

FROM dependencies AS built
COPY . .
# The empty sources were compiled a moment ago: what is older than that would count as unchanged.
ARG REVISION=unknown
RUN find . -name '*.rs' -not -path './target/*' -exec touch {} + \
 && STOCKTIDE_REVISION="${REVISION}" cargo build --locked --release --package stocktide \
 && mkdir /out && cp target/release/stocktide /out/stocktide

FROM ${DEBIAN_IMAGE} AS prebuilt
COPY deploy/bin /out

FROM ${PROGRAM} AS program

# What the program needs to run: its libraries, certificates, a user, its directories. The packages that these files come from
# are noted where scanners of images look.
FROM ${DEBIAN_IMAGE} AS root
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates libgcc-s1 libssl3 zlib1g && rm -rf /var/lib/apt/lists/*
COPY --from=program /out/stocktide /root-fs/usr/local/bin/stocktide
WORKDIR /root-fs
RUN ldd usr/local/bin/stocktide > /tmp/ldd; \
    if grep 'not found' /tmp/ldd; then exit 1; fi; \
    mkdir -p var/lib/dpkg/status.d; \
    sed -n -E 's/^(.* =>)?[[:space:]]*(\/[^ ]+) \(.*/\2/p' /tmp/ldd | while read -r library; do \
      mkdir -p ".$(dirname "$library")"; cp -L "$library" ".$library"; \
      dpkg-query --search "*/$(basename "$library")" | sed -n '1s/:.*//p'; \
    done > /tmp/packages; \
    echo ca-certificates >> /tmp/packages; \
    sort -u /tmp/packages | while read -r package; do \
      dpkg-query --status "$package" > "var/lib/dpkg/status.d/$package"; \
      mkdir -p "usr/share/doc/$package"; cp -L "/usr/share/doc/$package/copyright" "usr/share/doc/$package/"; \
    done
RUN mkdir -p -m 1777 tmp && mkdir -p etc/ssl/certs run var/lib/stocktide/reports \
 && cp -L /etc/ssl/certs/ca-certificates.crt etc/ssl/certs/ && cp -L /etc/os-release etc/os-release \
 && printf 'hosts: files dns\n' > etc/nsswitch.conf \
 && printf 'root:x:0:0::/:/sbin/nologin\nstocktide:x:10001:10001::/var/lib/stocktide:/sbin/nologin\n' > etc/passwd \
 && printf 'root:x:0:\nstocktide:x:10001:\n' > etc/group \
 && chown -R 10001:10001 var/lib/stocktide

FROM scratch
COPY --from=root /root-fs /
COPY LICENSE /usr/share/doc/stocktide/LICENSE
# /ready and /live are asked on the loopback of the container; who wants to scrape /metrics sets 0.0.0.0:9100.
ENV STOCKTIDE_ADMIN_LISTEN=127.0.0.1:9100 \
    STOCKTIDE_REPORTS_URL=file:///var/lib/stocktide/reports
USER 10001:10001
WORKDIR /var/lib/stocktide
EXPOSE 9100
# The first SIGTERM finishes the batch in hand, within processor.shutdown_deadline (30 s): let it have some more than that
# (docker stop --time 40, stop_grace_period). The second ends it at once.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["/usr/local/bin/stocktide", "health"]
ENTRYPOINT ["/usr/local/bin/stocktide"]
CMD ["up"]

ARG VERSION=0.1.0
ARG REVISION=unknown
ARG CREATED=unknown
LABEL org.opencontainers.image.title="Stocktide" \
      org.opencontainers.image.description="Real-time inventory from Kafka, daily reports from PostgreSQL" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.base.name="debian:bookworm-slim"
