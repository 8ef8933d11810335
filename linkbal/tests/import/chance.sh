#!/bin/bash
# Three lines, by chance.
IPT=$(which iptables)
DEVS=(eth0 eth1 ppp0)
GWS=(192.0.2.1 198.51.100.1
  203.0.113.1)
LAN=eth2
cat >> /etc/iproute2/rt_tables <<END
101 first
102 second
END
add_line() {
    local dev=$1 gw=$2 number=$3
    ip route add default via $gw dev $dev table $((100+number))
    ip rule | grep -q "fwmark 0x$number" || ip rule add fwmark $number table $((100+number))
}
for i in 0 1 2; do
    add_line ${DEVS[$i]} ${GWS[$i]} $((i+1))
done
ip route replace default via ${GWS[0]} dev ${DEVS[0]}
$IPT -t mangle -N SHARE
$IPT -t mangle -A PREROUTING -i $LAN -d bank.example.com -j MARK --set-mark 2
$IPT -t mangle -A PREROUTING -i $LAN -m mark --mark 0 -j SHARE
$IPT -t mangle -A SHARE -m statistic --mode random --probability 0.5 -j MARK --set-mark 1
$IPT -t mangle -A SHARE -m mark ! --mark 0 -j RETURN
$IPT -t mangle -A SHARE -m statistic --mode nth --every 2 --packet 0 -j MARK --set-mark 2
$IPT -t mangle -A SHARE -m mark --mark 0 -j MARK --set-mark 3
$IPT -t nat -A POSTROUTING -s 10.0.0.0/24 ! -d 10.8.0.0/24 -o eth0 -j MASQUERADE
$IPT -t nat -A POSTROUTING -s 192.0.2.64/28 -o eth1 -j ACCEPT
if ping -c1 -I ${DEVS[1]} 192.0.2.53; then
    ip rule add from 10.0.0.7 table second
fi
echo "
ip route add default via 192.0.2.9 dev eth9
"
