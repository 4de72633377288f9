{{- /*
Every service: the one place that pods, network policies and schedules read. tests/deploy/test_kubernetes.py holds it
against docker-compose.yml.

  args       the command behind `flattr`          broker, warehouse, store  what it talks to
  port       of /live, /ready and /metrics        rules              whether it computes money
  folders    of keys, from Secrets                settings           FLATTR_* of its own
  memoryMi   the limit; the sums are in docs/kubernetes.md, "Memory"
*/ -}}
{{- define "flattr.services" -}}
topics:
  args: [topics, create, --partitions, {{ .Values.topics.partitions | quote }}, --replication, {{ .Values.topics.replication | quote }}
  {{- if .Values.topics.rights }}, --rights{{ end }}]
  broker: true
  memoryMi: 256
migrate:
  args: [warehouse, migrate]
  warehouse: true
  memoryMi: 256
ingest:
  args: [ingest]
  broker: true
  traces: true
  port: 8001
  folders: {tokens: /run/flattr/tokens}
  cpu: {{ .Values.ingest.cpu | quote }}
  memoryMi: 384
  # compose's 30 s, and the 5 s in which the cluster learns that the pod is going.
  graceS: 35
  settings:
    FLATTR_INGEST_HOST: 0.0.0.0
    FLATTR_INGEST_PORT: "8001"
    FLATTR_INGEST_SPOOL: /var/lib/flattr/spool
    FLATTR_INGEST_SPOOL_MAX_BYTES: {{ mul .Values.ingest.spoolGi 536870912 | toString | quote }}
    FLATTR_TOKEN_KEYS: /run/flattr/tokens/keys.json
    FLATTR_TRUSTED_PROXIES: {{ .Values.ingress.trustedProxies | quote }}
streams:
  args: [streams]
  broker: true
  warehouse: true
  traces: true
  port: 8002
  cpu: {{ .Values.streams.cpu | quote }}
  memoryMi: {{ add .Values.streams.stateMb 768 }}
  # Writes what it has counted, for FLATTR_STREAMS_DRAIN_S (20 s) at most, and ends hard after three times that.
  graceS: 60
  settings:
    FLATTR_STREAMS_HOST: 0.0.0.0
    FLATTR_STREAMS_PORT: "8002"
    FLATTR_STREAMS_STATE_MAX_MB: {{ .Values.streams.stateMb | toString | quote }}
    FLATTR_STREAMS_SPILL_FOLDER: /var/lib/flattr/spill
api:
  args: [api]
  broker: true
  warehouse: true
  rules: true
  traces: true
  port: 8003
  folders: {tokens: /run/flattr/tokens, api-keys: /run/flattr/api}
  cpu: {{ .Values.api.cpu | quote }}
  memoryMi: 640
  graceS: 35
  settings:
    FLATTR_API_HOST: 0.0.0.0
    FLATTR_API_PORT: "8003"
    FLATTR_API_KEYS: /run/flattr/api/keys.json
    FLATTR_API_SESSION_SECRET: /run/flattr/api/session-secret
    FLATTR_TOKEN_KEYS: /run/flattr/tokens/keys.json
    FLATTR_API_VERIFY_LOG: "true"
    FLATTR_TRUSTED_PROXIES: {{ .Values.ingress.trustedProxies | quote }}
    FLATTR_API_INGEST: {{ printf "http://%s-ingest:8001" .Release.Name }}
    FLATTR_API_PARTS: {{ printf `{"ingest": "http://%s-ingest:8001/ready", "streams": "http://%s-streams:8002/ready"}` .Release.Name .Release.Name | quote }}
verify:
  args: [verify, --every, {{ .Values.verify.everyS | quote }}, --host, 0.0.0.0, --port, "8005"]
  broker: true
  warehouse: true
  port: 8005
  memoryMi: 512
quarantine:
  args: [quarantine, scan, --every, {{ .Values.quarantine.everyS | quote }}]
  secret: finance
  warehouse: true
  rules: true
  port: 8004
  memoryMi: 512
  settings:
    FLATTR_OPERATOR: quarantine
    FLATTR_QUARANTINE_HOST: 0.0.0.0
    FLATTR_QUARANTINE_PORT: "8004"
finance: {args: [month, --help], broker: true, warehouse: true, rules: true, memoryMi: 2048}
close: {args: [month, --help], broker: true, warehouse: true, rules: true, memoryMi: 2048}
approver: {args: [month, approve, --help], warehouse: true, rules: true, memoryMi: 512}
replay: {args: [replay, --help], broker: true, warehouse: true, memoryMi: 4096}
operator: {args: [approver, --help], warehouse: true, memoryMi: 256}
erasure: {args: [member, --help], broker: true, warehouse: true, rules: true, memoryMi: 512}
subscriptions: {args: [subscriptions, post], broker: true, warehouse: true, rules: true, memoryMi: 512}
backup: {args: [backup], warehouse: true, memoryMi: 256}
archive:
  args: [archive, older, --months, {{ .Values.archive.months | quote }}, --to, {{ .Values.archive.to | quote }}]
  secret: migrate
  warehouse: true
  store: true
  memoryMi: 1024
{{- end }}
