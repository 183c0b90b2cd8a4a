#!/bin/bash
# Stands in for strongSwan, xl2tpd and frr where a test is about what they are asked for: writes that down, and answers as
# they do once they run. The real ones are driven by test_sender.py.
program=${0##*/}
case "$program $*" in
    "ipsec statusall")
        sed -n 's/^conn \(.*\)/\1:  here...there/p' /etc/ipsec.d/*.conf
        exit
        ;;
    "ipsec start") echo 1 >/run/starter.charon.pid ;;
    "xl2tpd -p "*) echo 1 >"$2" ;;
    "zebra -d") echo 1 >/run/frr/zebra.pid ;;
esac
echo "$program $*" >>/run/vpn.log
