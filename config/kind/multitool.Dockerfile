# The lab's test image for those who have Docker: dig, curl, redis-cli, a shell, and nginx on port 80 for any user.
# From the top of the repository:
#   docker build -f config/kind/multitool.Dockerfile -t localhost/multitool:1 hack/cluster/src/image
FROM debian:bookworm-slim
RUN apt-get update \
 && apt-get install -y --no-install-recommends bind9-dnsutils curl nginx-light redis-tools \
 && rm -rf /var/lib/apt/lists/*
COPY nginx.conf /etc/nginx/nginx.conf
USER 1000:1000
CMD ["nginx", "-c", "/etc/nginx/nginx.conf"]
