"""Rules of a virtual router: databags are merged, rendered as a whole and applied as a whole.

``engine`` drives it. ``messages`` says what a databag must look like, ``merge`` keeps the state in
``/etc/cloudstack``, ``topology`` reads interfaces and networks out of that state, and each module of ``parts`` renders
and applies one part of the system: addresses, routes, packet filter, load balancer, DHCP and so on. Standard library
only, Python 3.7 and later.
"""
