# syntax=docker/dockerfile:1

# The standalone server with its page: `docker build -t chat-rooms .`

FROM rust:1-slim-bookworm AS build
WORKDIR /src
COPY . .
ARG FEATURES=jwt,redis,store
ENV CARGO_PROFILE_RELEASE_STRIP=true
# The caches keep the compiled dependencies when only sources have changed.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --package standalone --features "$FEATURES" \
    && cp target/release/standalone /

# glibc and nothing else: no shell, and an unprivileged user. The C library is that of the first stage.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /standalone /
ENV CHAT_LISTEN=0.0.0.0:3000
EXPOSE 3000
HEALTHCHECK --interval=30s --timeout=5s --start-period=5s CMD ["/standalone", "--check", "127.0.0.1:3000"]
ENTRYPOINT ["/standalone"]
