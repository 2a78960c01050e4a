{{- define "vssl.name" -}}
{{- if contains "vssl" .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-vssl" (.Release.Name | trunc 45 | trimSuffix "-") }}{{ end }}
{{- end }}

{{- define "vssl.selector" -}}
app.kubernetes.io/name: vssl
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "vssl.labels" -}}
{{ include "vssl.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- /* The claim of the galleries' folder, or nothing. */}}
{{- define "vssl.galleryClaim" -}}
{{- with .Values.galleries }}{{ if .claim }}{{ .claim }}{{ else if .size }}{{ include "vssl.name" $ }}-galleries{{ end }}{{ end }}
{{- end }}

{{- /* What Helm's schema can't say. */}}
{{- define "vssl.check" -}}
{{- with .Values }}
{{- if gt (len (compact (list .galleries.claim .galleries.size .galleries.secret))) 1 }}
{{- fail "galleries.claim, galleries.size and galleries.secret exclude each other: set one" }}
{{- end }}
{{- if and (include "vssl.galleryClaim" $) (or (gt (int .replicas) 1) .autoscaling.enabled) }}
{{- fail "galleries in a folder have one writer: set replicas to 1 and leave autoscaling off, or name a PostgreSQL in galleries.secret" }}
{{- end }}
{{- if and .galleries.secret .networkPolicy.enabled (not .networkPolicy.egress) }}
{{- fail "galleries.secret names a place elsewhere: let the pods reach it by networkPolicy.egress" }}
{{- end }}
{{- if and .bundleClaim (not .bundles) }}
{{- fail "bundleClaim is mounted at /bundle: name what to serve of it in bundles, such as [/bundle]" }}
{{- end }}
{{- end }}
{{- end }}
