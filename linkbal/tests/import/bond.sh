modprobe bonding mode=balance-rr miimon=1000
ifconfig eth1 hw ether 02:12:ab:30:ae:9b
ifconfig eth2 hw ether 02:12:ab:30:ae:9b
ifconfig bond0 up
ifconfig eth1 up promisc
ifconfig eth2 up promisc
ifenslave bond0 eth1 eth2
ip addr add 192.0.2.2/30 brd + dev bond0
ip addr add 198.51.100.2/28 brd + dev bond0
ip route add default nexthop via 192.0.2.1 dev bond0 weight 30 nexthop via 198.51.100.1 dev bond0 weight 70
