{{/*
What the operator may do with RedisReplicaSets and their children: the one list of this install form, bound by a
ClusterRole or a Role (rbac.yaml). config/rbac/role.yaml holds the same rules for the plain-kubectl install;
tests/chart.rs compares the two.
*/}}
{{- define "redis-operator.rules" -}}
- apiGroups: [replication.redis]
  resources: [redisreplicasets]
  verbs: [get, list, watch]
- apiGroups: [replication.redis]
  resources: [redisreplicasets/status]
  verbs: [patch]
- apiGroups: [""]
  resources: [services]
  verbs: [get, list, watch, create, patch]
# update: the record is replaced as a whole, on condition that nobody else changed it meanwhile.
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, list, watch, create, patch, update]
# patch: the label replication.redis/role, by which the Services choose.
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch, patch, delete]
# Passwords are read one by one, by name: no list, no watch. update: of <set>-internal alone, when a password changes.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, create, update]
# list: before a set begins, because volumes of an earlier set of its name may hold data; and when its pods, their wanted
# size or the epoch changed. patch: to grow them, and to leave the histories that elections ended on them.
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [list, patch]
{{- if eq .Values.scope "cluster" }}
# Only while nobody serves and the pod that served last is gone: whether its node can still run its process. A Role cannot
# grant it; without it such a set is held until a person decides.
- apiGroups: [""]
  resources: [nodes]
  verbs: [get]
{{- end }}
- apiGroups: [apps]
  resources: [statefulsets]
  verbs: [get, list, watch, create, patch]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
# Those of a StatefulSet, and only while a pod is missing whose turn it is: there alone Kubernetes says that it was refused.
- apiGroups: [""]
  resources: [events]
  verbs: [list]
{{- end -}}
