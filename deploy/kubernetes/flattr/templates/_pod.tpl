{{- define "flattr.selector" -}}
app.kubernetes.io/name: flattr
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .service }}
{{- end }}

{{- /* The same in one line. */ -}}
{{- define "flattr.match" -}}
{{ include "flattr.selector" . | fromYaml | toJson }}
{{- end }}

{{- define "flattr.labels" -}}
{{ include "flattr.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- end }}

{{- /* name, labels and, if `hook` is a number, when it runs: before anything else of a release, in this order. */ -}}
{{- define "flattr.metadata" -}}
name: {{ .root.Release.Name }}-{{ .name | default .service }}
labels: {{- include "flattr.labels" . | nindent 2 }}
{{- with .hook }}
annotations:
  helm.sh/hook: pre-install,pre-upgrade
  helm.sh/hook-weight: {{ . | quote }}
  helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end }}
{{- end }}

{{- /* FLATTR_* of a service: the chart's, the service's, then the operator's, each over those before. */ -}}
{{- define "flattr.environment" -}}
{{- $root := .root -}}
{{- $table := include "flattr.services" $root | fromYaml -}}
{{- $each := get $table .service -}}
{{- $values := $root.Values -}}
{{- $found := dict "FLATTR_GRACE_S" (toString $values.graceS) -}}
{{- if $each.broker -}}
{{- $_ := set $found "FLATTR_BROKER" $values.broker.bootstrap -}}
{{- $_ := set $found "FLATTR_BROKER_SECURITY" $values.broker.security -}}
{{- if hasPrefix "SASL" $values.broker.security -}}{{- $_ := set $found "FLATTR_BROKER_SASL_MECHANISM" $values.broker.saslMechanism -}}{{- end -}}
{{- if include "flattr.broker-ca" $root -}}{{- $_ := set $found "FLATTR_BROKER_CA_FILE" "/run/flattr/broker/ca.pem" -}}{{- end -}}
{{- end -}}
{{- if and $each.traces $values.traces.endpoint -}}{{- $_ := set $found "FLATTR_TRACES_ENDPOINT" $values.traces.endpoint -}}{{- end -}}
{{- $own := dig "settings" dict (get $values .service | default dict) -}}
{{- $found = mergeOverwrite $found ($each.settings | default dict) $values.settings $own -}}
{{- range $name := keys $found | sortAlpha }}
- {name: {{ $name }}, value: {{ get $found $name | toString | quote }}}
{{- end }}
{{- end }}

{{- define "flattr.broker-ca" -}}
{{- if and (hasSuffix "SSL" .Values.broker.security) .Values.broker.ca.secret }}yes{{ end -}}
{{- end }}

{{- /*
A pod's template: what a service is, from the table. `args` replace its own; `sessionS` has it wait for `kubectl exec`.
The image's user; nothing of the image can be written; no token of the cluster; no capability.
*/ -}}
{{- define "flattr.pod" -}}
{{- $root := .root -}}
{{- $table := include "flattr.services" $root | fromYaml -}}
{{- $each := get $table .service -}}
{{- $values := $root.Values -}}
{{- $own := get $values .service | default dict -}}
metadata:
  labels: {{- include "flattr.labels" . | nindent 4 }}
  annotations:
    # Rules are read at the start: a pod with other ones is another pod.
    checksum/rules: {{ toJson $values.rules | sha256sum }}
spec:
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ $each.graceS | default 30 }}
  {{- with .restartPolicy }}
  restartPolicy: {{ . }}
  {{- end }}
  {{- with $values.image.pullSecrets }}
  imagePullSecrets:
    {{- range . }}
    - {name: {{ . }}}
    {{- end }}
  {{- end }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 10001
    runAsGroup: 10001
    fsGroup: 10001
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile: {type: RuntimeDefault}
  {{- if $each.port }}
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: ScheduleAnyway
      labelSelector: {matchLabels: {{ include "flattr.match" . }}}
  {{- end }}
  containers:
    - name: {{ .service }}
      image: "{{ $values.image.repository }}:{{ $own.tag | default $values.image.tag | default $root.Chart.AppVersion }}"
      imagePullPolicy: {{ $values.image.pullPolicy }}
      {{- if .sessionS }}
      command: [sleep, {{ .sessionS | toString | quote }}]
      {{- else }}
      args: {{ .args | default $each.args | toJson }}
      {{- end }}
      {{- if eq .service "finance" }}
      workingDir: /var/lib/flattr/finance
      {{- end }}
      envFrom:
        - secretRef: {name: {{ $root.Release.Name }}-{{ $each.secret | default .service }}}
        {{- if $each.rules }}
        - configMapRef: {name: {{ $root.Release.Name }}-rules}
        {{- end }}
      env: {{- include "flattr.environment" . | nindent 8 }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities: {drop: [ALL]}
      # No limit of the processor: a limit stops a process for tens of milliseconds at a time, which the slowest answers show.
      resources:
        requests: {cpu: {{ $each.cpu | default "100m" | quote }}, memory: {{ printf "%dMi" (div (int $each.memoryMi) 2) }}}
        limits: {memory: {{ printf "%dMi" (int $each.memoryMi) }}}
      {{- if $each.port }}
      ports:
        - {name: http, containerPort: {{ $each.port }}}
      {{- include "flattr.probes" . | nindent 6 }}
      {{- end }}
      volumeMounts:
        - {name: tmp, mountPath: /tmp}
        # Compiled functions: numba starts no worker where it cannot write them.
        - {name: cache, mountPath: /var/cache/flattr}
        {{- if and $each.broker (include "flattr.broker-ca" $root) }}
        - {name: broker-ca, mountPath: /run/flattr/broker, readOnly: true}
        {{- end }}
        {{- if and $each.warehouse $values.warehouse.ca.secret }}
        - {name: warehouse-ca, mountPath: /run/flattr/warehouse, readOnly: true}
        {{- end }}
        {{- range $name, $path := $each.folders }}
        - {name: {{ $name }}, mountPath: {{ $path }}, readOnly: true}
        {{- end }}
        {{- if eq .service "ingest" }}
        - {name: spool, mountPath: /var/lib/flattr/spool}
        {{- else if eq .service "streams" }}
        - {name: spill, mountPath: /var/lib/flattr/spill}
        {{- else if eq .service "finance" }}
        - {name: finance, mountPath: /var/lib/flattr/finance}
        {{- end }}
  volumes:
    - {name: tmp, emptyDir: {sizeLimit: 256Mi}}
    - {name: cache, emptyDir: {sizeLimit: 256Mi}}
    {{- if and $each.broker (include "flattr.broker-ca" $root) }}
    - name: broker-ca
      secret:
        secretName: {{ $values.broker.ca.secret }}
        items: [{key: {{ $values.broker.ca.key | quote }}, path: ca.pem}]
    {{- end }}
    {{- if and $each.warehouse $values.warehouse.ca.secret }}
    - name: warehouse-ca
      secret:
        secretName: {{ $values.warehouse.ca.secret }}
        items: [{key: {{ $values.warehouse.ca.key | quote }}, path: ca.pem}]
    {{- end }}
    # The folder, not the file: a key that is revoked is gone from a running pod within a minute or two.
    {{- range $name, $path := $each.folders }}
    - {name: {{ $name }}, secret: {secretName: {{ $root.Release.Name }}-{{ $name }}, defaultMode: 0440}}
    {{- end }}
    {{- if eq .service "streams" }}
    - {name: spill, emptyDir: {sizeLimit: {{ $values.streams.spillGi }}Gi}}
    {{- else if eq .service "finance" }}
    - {name: finance, persistentVolumeClaim: {claimName: {{ $root.Release.Name }}-finance}}
    {{- end }}
{{- end }}

{{- /*
/live restarts a process; /ready takes a pod out of its Service. Ingest is ready without Kafka while its spool has room. Without the
warehouse no pod of the API is ready, and there is nobody else to ask: so it must have been ready once, and then goes on
answering, with the reason. A worker is asked by nobody but the live page. The first start compiles for some seconds.
*/ -}}
{{- define "flattr.probes" -}}
{{- if has .service (list "verify" "quarantine") }}
startupProbe: {httpGet: {path: /metrics, port: http}, periodSeconds: 5, timeoutSeconds: 5, failureThreshold: 120}
readinessProbe: {httpGet: {path: /metrics, port: http}, periodSeconds: 10, timeoutSeconds: 5}
livenessProbe: {httpGet: {path: /metrics, port: http}, periodSeconds: 30, timeoutSeconds: 10, failureThreshold: 6}
{{- else }}
startupProbe: {httpGet: {path: {{ eq .service "api" | ternary "/ready" "/live" }}, port: http}, periodSeconds: 5, timeoutSeconds: 5, failureThreshold: 120}
readinessProbe: {httpGet: {path: {{ eq .service "api" | ternary "/live" "/ready" }}, port: http}, periodSeconds: 5, timeoutSeconds: 5}
livenessProbe: {httpGet: {path: /live, port: http}, periodSeconds: 10, timeoutSeconds: 10, failureThreshold: 6}
{{- if ne .service "streams" }}
# Until every node has heard that the pod is going, requests still come.
lifecycle: {preStop: {sleep: {seconds: 5}}}
{{- end }}
{{- end }}
{{- end }}
