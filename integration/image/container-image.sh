#!/bin/bash
# Makes OCI image archives in the folder $2 from files of the root folder $1. No registry is asked.
#
# test.tar: localhost/rtc-test:latest, busybox with its links, Redis with its libraries; runs a shell.
# pause.tar: localhost/rtc-pause:latest, busybox alone; does nothing, for ever: what holds a pod's namespaces.
# Podman (`podman load`) and containerd (`ctr image import`) take the archives; Docker takes the layer in them (`docker
# import`).
set -euo pipefail

root=$1
folder=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

make_busybox() {
    local layer=$1 applet
    mkdir -p "$layer"/{bin,etc,proc,sys,dev,tmp,run,root,data,usr/bin,lib64}
    chmod 1777 "$layer/tmp"
    cp "$root/usr/bin/busybox" "$layer/bin/"
    for applet in $("$root/usr/bin/busybox" --list); do
        [ "$applet" = busybox ] || ln -s busybox "$layer/bin/$applet"
    done
    echo 'root:x:0:0:root:/root:/bin/sh' > "$layer/etc/passwd"
    echo 'nobody:x:65534:65534:nobody:/:/bin/false' >> "$layer/etc/passwd"
    printf 'root:x:0:\nnogroup:x:65534:\n' > "$layer/etc/group"
}

add_redis() {
    local layer=$1 program library
    for program in redis-server redis-cli; do
        cp -L "$root/usr/bin/$program" "$layer/usr/bin/"
        # The dynamic linker of the root folder lists the libraries; nothing in the folder has to be installed here.
        for library in $(chroot "$root" ldd "/usr/bin/$program" | grep -o '/[^ ]*'); do
            mkdir -p "$layer$(dirname "$library")"
            cp -L "$root$library" "$layer$library"
        done
    done
}

# Adds a file to the image's blobs; prints its digest without "sha256:".
blob() {
    local digest
    digest=$(sha256sum "$1" | cut -d' ' -f1)
    cp "$1" "$work/image/blobs/sha256/$digest"
    echo "$digest"
}

# make_image NAME COMMAND: archives the folder `layer`; the command is JSON.
make_image() {
    local name=localhost/rtc-$1:latest layer config manifest
    rm -rf "$work/image"
    mkdir -p "$work/image/blobs/sha256"
    tar -C "$work/layer" --sort=name --owner=0 --group=0 --numeric-owner -cf "$work/layer.tar" .
    layer=$(blob "$work/layer.tar")
    cat > "$work/config.json" <<END
{"architecture":"amd64","os":"linux","config":{"Env":["PATH=/bin:/usr/bin"],"Cmd":$2},
"rootfs":{"type":"layers","diff_ids":["sha256:$layer"]}}
END
    config=$(blob "$work/config.json")
    cat > "$work/manifest.json" <<END
{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",
"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:$config","size":$(stat -c%s "$work/config.json")},
"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"sha256:$layer","size":$(stat -c%s "$work/layer.tar")}]}
END
    manifest=$(blob "$work/manifest.json")
    cat > "$work/image/index.json" <<END
{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:$manifest",
"size":$(stat -c%s "$work/manifest.json"),"annotations":{"org.opencontainers.image.ref.name":"$name",
"io.containerd.image.name":"$name"}}]}
END
    echo '{"imageLayoutVersion":"1.0.0"}' > "$work/image/oci-layout"
    tar -C "$work/image" --sort=name -cf "$folder/$1.tar" .
}

make_busybox "$work/layer"
make_image pause '["/bin/sleep","infinity"]'
add_redis "$work/layer"
make_image test '["/bin/sh"]'
