#!/bin/bash
# Lets go of Envoy's clients before Envoy ends: the preStop hook of the Envoy pods.
#
#   drain.sh [NOTICE [DEADLINE]]     seconds; by default 10 and 240
#
# 1. Its health checks fail, so that load balancers stop sending new clients; those who come anyway are served, and each response asks
#    to close the connection. That goes on for NOTICE seconds: load balancers need them to notice.
# 2. The listeners drain. As soon as no connection is left, or after DEADLINE seconds in all, it is done, and Envoy may end.
#
# ADMIN_SOCKET is the path of the admin page. Without an answer there is nothing to drain.
set -u

notice=${1:-10} deadline=${2:-240}
socket=${ADMIN_SOCKET:-/run/envoy/admin.sock}
no_answer=7 # exit code of curl where it cannot connect

ask() { # METHOD PATH: prints the answer
    curl -q --silent --fail --max-time 10 --noproxy '*' --unix-socket "$socket" --request "$1" "http://admin$2"
}

connections() { # of clients, over all listeners but that of the probes; 1 where an Envoy that lives has not answered in time
    local sum=0 line answer
    answer=$(ask GET '/stats?filter=downstream_cx_active') || { [[ $? == "$no_answer" ]] && echo 0 || echo 1; return; }
    while IFS= read -r line; do
        [[ $line =~ ^listener\.(http|https|tcp/[0-9]+)\.downstream_cx_active:\ ([0-9]+)$ ]] && sum=$((sum + BASH_REMATCH[2]))
    done <<<"$answer"
    echo "$sum"
}

ask POST /healthcheck/fail >/dev/null || [[ $? != "$no_answer" ]] || exit 0
sleep "$notice"
ask POST '/drain_listeners?graceful' >/dev/null || [[ $? != "$no_answer" ]] || exit 0
while ((SECONDS < deadline)) && (($(connections) > 0)); do
    sleep 1
done
