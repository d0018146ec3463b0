# docker compose and docker build with rtc as the default runtime.
# guest: systemd
# seconds: 38

. /rtc/suites/dockerd.sh

work=/tmp/compose

setup() {
    start_docker 'del(."exec-opts") | ."default-runtime" = "rtc"'
    mkdir -p $work
}

cleanup() {
    compose down -v -t 0
    remove_all
}

compose() {
    docker compose --project-directory $work --project-name app --progress quiet "$@"
}

case_an_application_of_two_services() {
    cat > $work/compose.yaml << END
services:
  web:
    image: $image
    depends_on: { store: { condition: service_healthy } }
    environment: { GREETING: hello }
    command: >-
      sh -c 'redis-cli -h store rpush seen \$\$HOSTNAME; echo \$\$GREETING > /srv/index.html; exec httpd -f -p 80 -h /srv'
    tmpfs: /srv
    read_only: true
    cap_drop: [ALL]
    cap_add: [NET_BIND_SERVICE]
    stop_grace_period: 0s
    restart: unless-stopped
    deploy: { resources: { limits: { memory: 32m, pids: 20 } } }
  store:
    image: $image
    command: redis-server --save "" --appendonly yes --dir /data --protected-mode no
    volumes: [data:/data]
    healthcheck: { test: redis-cli ping, interval: 60s, start_interval: 1s, start_period: 120s }
volumes: { data: {} }
END
    compose up -d --scale web=2
    # Both have said their names, which means that the store was there before them.
    until_true seen 2
    compose exec -T --index 1 web sh -euxc '
        # Either of the two, which have still to serve.
        until [ "$(wget -qO- http://web/index.html)" = hello ]; do sleep 0.1; done
        [ "$(nslookup web | grep -c "^Address: [0-9]")" = 2 ]
        refused() { if "$@"; then exit 99; fi; }
        refused touch /new
        [ "$(cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max | paste -sd" ")" = "33554432 20" ]
        grep -q "^CapEff:.*0000000000000400$" /proc/1/status'
    compose stop
    same "" "$(docker ps -q)"
    # What the volume holds is still there, and one of the two containers starts again under its old name.
    compose up -d --scale web=1
    until_true seen 3
    same 2 "$(docker exec app-store-1 redis-cli lrange seen 0 -1 | sort -u | wc -l)"
    same 2 "$(docker ps -q | wc -l)"
    compose down -v -t 0
    same "" "$(docker ps -aq; docker volume ls -q)"
}

# seen NUMBER: how many starts of web the store knows.
seen() {
    [ "$(docker exec app-store-1 redis-cli llen seen)" = "$1" ]
}

# By the old builder, which asks the daemon's runtime, and by BuildKit, which calls runc's name itself.
case_an_image_is_built() {
    cat > $work/Dockerfile << END
FROM $image
ARG WORD
RUN id -u > /who && echo \$WORD > /word
USER 65534
RUN id -u > /tmp/other && ! touch /new
CMD cat /who /word /tmp/other
END
    local kit
    for kit in 0 1; do
        DOCKER_BUILDKIT=$kit docker build --build-arg WORD=kit$kit --network none -t built-$kit $work 2>&1 | tee /tmp/build
        same $kit "$(grep -c 'exporting to image' /tmp/build || true)"
        same "0 kit$kit 65534" "$(docker run --rm --network none built-$kit | xargs)"
        docker image rm built-$kit
    done
}
