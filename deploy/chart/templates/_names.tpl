{{- define "xds.name" -}}
{{- .Values.nameOverride | default .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{/* Labels by which pods are found; they never change. Takes a dict: root, component. */}}
{{- define "xds.selector" -}}
app.kubernetes.io/name: xds
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "xds.labels" -}}
{{ include "xds.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{- define "xds.image" -}}
{{ .image.repository }}:{{ .image.tag | default .root.Chart.AppVersion }}
{{- end }}

{{- define "xds.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "xds.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* What Prometheus scrapes of a pod, and annotations that are given, which count where both have one. Takes a dict: port, path, given. */}}
{{- define "xds.podAnnotations" -}}
{{- $scraped := dict "prometheus.io/scrape" "true" "prometheus.io/port" (toString .port) "prometheus.io/path" .path }}
{{- toYaml (merge (deepCopy .given) $scraped) }}
{{- end }}

{{- define "xds.podName" -}}
- name: POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
{{- end }}

{{- define "xds.podNamespace" -}}
- name: POD_NAMESPACE
  valueFrom:
    fieldRef:
      fieldPath: metadata.namespace
{{- end }}

{{/* Refuses flags that take rights which extraArgs cannot give; each has a value that does. */}}
{{- define "xds.noRightsByFlag" -}}
{{- $values := dict "election-id" "electionID" "update-status-on-shutdown" "updateStatusOnShutdown" }}
{{- range .Values.controlPlane.extraArgs }}
{{- $flag := regexReplaceAll "^--?([a-z_-]+)(=.*)?$" . "${1}" | replace "_" "-" }}
{{- with get $values $flag }}
{{- fail (printf "--%s in controlPlane.extraArgs would lack rights: set controlPlane.%s instead, which the Role follows" $flag .) }}
{{- end }}
{{- end }}
{{- end }}

{{/* Refuses a drain that ends before load balancers have had their notice: the pod's grace period, which follows the deadline, may not suffice. */}}
{{- define "xds.noticeBeforeDeadline" -}}
{{- if gt (int .Values.envoy.drain.noticeSeconds) (int .Values.envoy.drain.deadlineSeconds) }}
{{- fail "envoy.drain.deadlineSeconds counts from the start of the drain, so it cannot be less than envoy.drain.noticeSeconds" }}
{{- end }}
{{- end }}
