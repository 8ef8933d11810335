#!/bin/bash
# Process 1 of a guest. The kernel's messages go to the first serial port, the tests' to the one that
# the kernel's command line names as "port".
export PATH=/usr/sbin:/usr/bin HOME=/root LINKBAL_BIN=/tests/linkbal
export LINKBAL_RESULTS=/results
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm /dev/net
ln -s /proc/self/fd /dev/fd
ln -s fd/0 /dev/stdin
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /run
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
while read -r module; do
    busybox insmod "/modules/$module" || echo "failed to load $module"
done </modules/order
# The kernel makes it only when a program asks udev, which is not here.
[ -e /dev/net/tun ] || mknod /dev/net/tun c 10 200
ip link set lo up
mkdir -p /results
exec </dev/null >"/dev/$port" 2>&1
read -r uptime _ </proc/uptime
echo "guest: ready after $uptime s"
cd /tests
bash /tests/run.sh
status=$?
busybox dmesg >/results/dmesg
busybox tar -c -f /dev/vda -C /results .
sync
echo "guest: exit $status"
# The port may still hold some of it.
sleep 0.5
busybox poweroff -f
