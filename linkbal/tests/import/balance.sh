#!/bin/sh
# Two lines, 30 to 70.
IF1=eth0
GW1=192.0.2.1
T1=first
IF2=eth1
GW2=198.51.100.1
T2=second
IF_LAN=eth2
NET=10.0.0.0/24

echo 1 > /proc/sys/net/ipv4/ip_forward
modprobe iptable_nat

start() {
    ip route flush table $T1
    ip route add default via $GW1 dev $IF1 table $T1
    ip route add default via ${GW2} dev "$IF2" table $T2
    ip route add 192.0.2.0/24 dev $IF1 src 192.0.2.2 table $T1
    ip rule add from 192.0.2.2 table $T1
    ip rule add from 10.9.0.0/16 lookup $T2 prio 50
    ip rule add fwmark 0x10 lookup $T1
    ip rule add fwmark 0x20 lookup $T2
    ip route replace default scope global \
        nexthop via $GW1 dev $IF1 weight 30 \
        nexthop via $GW2 dev $IF2 weight 70
    iptables -t mangle -A PREROUTING -i $IF_LAN -s $NET -p tcp -m multiport --dports 25,110,143 -j MARK --set-mark 0x10
    iptables -t mangle -A PREROUTING -i $IF_LAN -p tcp --dport 443 -j MARK --set-mark 0x20
    iptables -t mangle -A PREROUTING -m statistic --mode random --probability 0.5 -j MARK --set-mark 0x20
    iptables -t nat -A POSTROUTING -o $IF1 -j MASQUERADE
    route add -host bank.example.com gw $GW2 dev $IF2
    frobnicate --all
}

stop() {
    ip route del default
}

case "$1" in
    start) start ;;
    stop) stop ;;
    *) echo "start or stop" ;;
esac
