# The operator's image: two static binaries and nothing else.
FROM rust:1.95.0 AS build
WORKDIR /src
COPY . .
# The machine's own architecture is built, so the same file makes an amd64 and an arm64 image.
RUN target="$(uname -m)-unknown-linux-gnu" \
    && hack/release/static.sh \
    && mkdir /out \
    && cp "target/$target/release/redis-operator" "target/$target/release/agent" /out/

# hack/cluster reads this stage too, to make the image without a container engine: keep it to instructions that
# hack/cluster/src/image/dockerfile.rs knows.
FROM scratch
LABEL org.opencontainers.image.title="redis-operator" \
      org.opencontainers.image.description="Kubernetes operator for replicated Redis that says, with evidence, whom every server follows" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /out/redis-operator /out/agent /
USER 65532:65532
ENTRYPOINT ["/redis-operator"]
