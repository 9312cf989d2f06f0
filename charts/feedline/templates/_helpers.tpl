{{/* The name of everything: the release's, with feedline in it and without saying it twice. */}}
{{- define "feedline.fullname" -}}
{{- $name := .Values.fullnameOverride | default (contains "feedline" .Release.Name | ternary .Release.Name (printf "%s-feedline" .Release.Name)) -}}
{{- printf "%s-operator" ($name | trunc 50 | trimSuffix "-") -}}
{{- end }}

{{- define "feedline.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (include "feedline.fullname" .) -}}
{{- end }}

{{- define "feedline.labels" -}}
{{- $fixed := dict
    "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version)
    "app.kubernetes.io/version" .Chart.AppVersion
    "app.kubernetes.io/managed-by" .Release.Service
    "app.kubernetes.io/part-of" "feedline" -}}
{{- toYaml (merge $fixed (include "feedline.selector" . | fromYaml) (.Values.commonLabels | default dict)) -}}
{{- end }}

{{/* `feedline why` names the operator's pods by the first of these. */}}
{{- define "feedline.selector" -}}
app.kubernetes.io/name: feedline-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* An image from [its values, the tag where they name none, the path of the values]. */}}
{{- define "feedline.image" -}}
{{- $image := index . 0 -}}
{{- if and $image.tag $image.digest -}}
{{- fail (printf "%s: the tag %q and the digest %q may name two different images: set one of them, and the other to \"\"." (index . 2) $image.tag $image.digest) -}}
{{- end -}}
{{- with $image.registry }}{{ . }}/{{ end }}{{ $image.repository }}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ $image.tag | default (index . 1) }}{{ end -}}
{{- end }}

{{/* Fails where the namespace in [path of the value, namespace] is not there. Without a cluster, as in `helm template`, nothing
is there, not even kube-system. It is asked only where a namespace is named, since it takes the right to read one. */}}
{{- define "feedline.namespaceExists" -}}
{{- if and (lookup "v1" "Namespace" "" "kube-system") (not (lookup "v1" "Namespace" "" (index . 1))) -}}
{{- fail (printf "%s: the namespace %q does not exist: create it first (kubectl create namespace %s)." (index . 0) (index . 1) (index . 1)) -}}
{{- end -}}
{{- end }}

{{/* What a schema cannot see. Included first in what is always rendered, so that nothing is created. */}}
{{- define "feedline.checks" -}}
{{- if not (or .Values.serviceAccount.create .Values.serviceAccount.name) -}}
{{- fail "serviceAccount.name: name the ServiceAccount that the operator is to use, since serviceAccount.create is false." -}}
{{- end -}}
{{- if contains "." .Release.Name -}}
{{- fail (printf "the release's name %q has a dot, which no Service may have: take another, or set fullnameOverride." .Release.Name) -}}
{{- end -}}
{{- range .Values.watch.namespaces -}}
{{- include "feedline.namespaceExists" (list "watch.namespaces" .) -}}
{{- end -}}
{{- with .Values.grafana.dashboards -}}
{{- if and .enabled .namespace -}}
{{- include "feedline.namespaceExists" (list "grafana.dashboards.namespace" .namespace) -}}
{{- end -}}
{{- end -}}
{{- end }}
