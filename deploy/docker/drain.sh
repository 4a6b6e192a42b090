#!/bin/bash
# Lets go of Envoy's clients before Envoy ends: the preStop hook of the Envoy pods.
#
#   drain.sh [NOTICE [DEADLINE]]     seconds; by default 10 and 240
#
# 1. Its health checks fail, so that load balancers stop sending new clients; those who come anyway are served, and each response asks
#    to close the connection. That goes on for NOTICE seconds: load balancers need them to notice.
# 2. The listeners drain. As soon as nobody is connected any more, or after DEADLINE seconds in all, it is done, and Envoy may end.
#
# ADMIN_HOST and ADMIN_PORT say where the admin page is. Where it does not answer there is nothing to drain.
set -u

notice=${1:-10} deadline=${2:-240}
host=${ADMIN_HOST:-127.0.0.1} port=${ADMIN_PORT:-9901}

ask() { # METHOD PATH: prints the answer
    exec {admin}<>"/dev/tcp/$host/$port" || return
    printf '%s %s HTTP/1.1\r\nHost: admin\r\nContent-Length: 0\r\nConnection: close\r\n\r\n' "$1" "$2" >&"$admin"
    cat <&"$admin"
    exec {admin}>&-
}

connections() { # of clients, over all listeners but those of the admin page and of the probes
    local sum=0 line
    while IFS= read -r line; do
        line=${line%$'\r'}
        [[ $line =~ ^listener\.(http|https|tcp/[0-9]+)\.downstream_cx_active:\ ([0-9]+)$ ]] && sum=$((sum + BASH_REMATCH[2]))
    done < <(ask GET '/stats?filter=downstream_cx_active')
    echo "$sum"
}

ask POST /healthcheck/fail >/dev/null 2>&1 || exit 0
sleep "$notice"
ask POST '/drain_listeners?graceful' >/dev/null || exit 0
while ((SECONDS < deadline)) && (($(connections) > 0)); do
    sleep 1
done
