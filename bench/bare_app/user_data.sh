#!/bin/bash
# First boot of an instance of pool cost_efficient: settings, units and code, then the units take over.
# Its log: /var/log/cloud-init-output.log. No secret is in here: everything on the instance may read user data.
set -euo pipefail

imds() {
  local token
  token=$(curl --silent --fail --max-time 5 --request PUT --header 'X-aws-ec2-metadata-token-ttl-seconds: 300' http://169.254.169.254/latest/api/token)
  curl --silent --fail --max-time 5 --header "X-aws-ec2-metadata-token: $token" "http://169.254.169.254/latest/meta-data/$1"
}

give_up() {
  echo "first boot failed in line $1; giving the instance up" >&2
  aws autoscaling complete-lifecycle-action --region 'us-east-1' --lifecycle-hook-name 'launch' \
    --auto-scaling-group-name "$(imds tags/instance/aws:autoscaling:groupName)" --instance-id "$(imds instance-id)" \
    --lifecycle-action-result ABANDON
}
trap 'give_up "$LINENO"' ERR

have() { command -v "$1" >/dev/null; }
install_package() {
  if have dnf; then dnf install --assumeyes --quiet "$1"; else apt-get update --quiet && apt-get install --yes --quiet "$2"; fi
}
have aws || install_package awscli-2 awscli
have docker || install_package docker docker.io
have mdadm || install_package mdadm mdadm
have mkfs.xfs || install_package xfsprogs xfsprogs

mkdir -p /etc/llm-fleet /opt/llm-fleet/on_instance
cat >/etc/llm-fleet/settings.json <<'SETTINGS'
{"version":1,"pattern":"startup-mvp","pool":"cost_efficient","region":"us-east-1","queue_url":"@QUEUE_URL@","dead_letter_queue_url":"@DEAD_LETTER_QUEUE_URL@","registry_table":"@WORKER_TABLE@","batch_table":"@BATCH_TABLE@","batch_files_bucket":"@BATCH_FILES@","batch_results_bucket":"@BATCH_RESULTS@","weights_bucket":"@WEIGHTS@","log_group":"@LOG_GROUP@","metrics_namespace":"LlmFleet","worker_image":"@WORKER_IMAGE@","hooks":{"launch":"launch","launch_seconds":1800,"terminate":"drain","drain_seconds":300},"engine":{"name":"vllm","version":"0.33.0","image":"vllm/vllm-openai:v0.33.0","vendor":"nvidia","port":8000,"environment":{"DO_NOT_TRACK":"1","HF_HUB_OFFLINE":"1","VLLM_CACHE_ROOT":"/cache/vllm","VLLM_ENGINE_READY_TIMEOUT_S":"3600","VLLM_HTTP_TIMEOUT_KEEP_ALIVE":"620","VLLM_NO_USAGE_STATS":"1"},"artifacts_folder":"/cache/vllm/neuron/compile_cache"},"model":{"served_model_name":"meta-llama/Llama-2-7b-chat-hf","repository":"RedHatAI/Llama-2-7b-chat-quantized.w8a8","token_secret":"llm-fleet/hub-token"},"instance_types":{"g4dn.xlarge":{"replicas":1,"tensor_parallel":1,"max_num_seqs":17,"capacity_weight":1,"arguments":["--served-model-name","meta-llama/Llama-2-7b-chat-hf","--tensor-parallel-size","1","--max-model-len","4096","--max-num-seqs","17","--max-num-batched-tokens","2048","--dtype","float16","--disable-access-log-for-endpoints","/health,/metrics","--shutdown-timeout","300","--max-num-queued-reqs","68"]},"g4dn.2xlarge":{"replicas":1,"tensor_parallel":1,"max_num_seqs":17,"capacity_weight":1,"arguments":["--served-model-name","meta-llama/Llama-2-7b-chat-hf","--tensor-parallel-size","1","--max-model-len","4096","--max-num-seqs","17","--max-num-batched-tokens","2048","--dtype","float16","--disable-access-log-for-endpoints","/health,/metrics","--shutdown-timeout","300","--max-num-queued-reqs","68"]}}}
SETTINGS
cat >/etc/llm-fleet/cloudwatch-agent.json <<'AGENT'
{"logs": {"logs_collected": {"journald": {"collect_list": [
{"log_group_name": "@LOG_GROUP@", "log_stream_name": "cost_efficient/{instance_id}",
 "units": ["docker.service", "llm-disk.service", "llm-image.service", "llm-weights.service", "llm-engine@*.service", "llm-ready.service", "llm-worker.service", "llm-unhealthy.service"]}]}}}}
AGENT
cat >/etc/systemd/system/llm-disk.service <<'UNIT'
[Unit]
Description=NVMe of the instance, as one file system at /mnt/llm
ConditionPathExists=/opt/llm-fleet/on_instance/disk.sh

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/bash /opt/llm-fleet/on_instance/disk.sh
UNIT
cat >/etc/systemd/system/llm-image.service <<'UNIT'
[Unit]
Description=Container images of engine and worker
Requires=docker.service
After=docker.service network-online.target
Wants=network-online.target
StartLimitIntervalSec=3600
StartLimitBurst=5

[Service]
Type=oneshot
RemainAfterExit=yes
WorkingDirectory=/opt/llm-fleet
ExecStart=/usr/bin/python3 -m on_instance image
Restart=on-failure
RestartSec=15
TimeoutStartSec=45min
UNIT
cat >/etc/systemd/system/llm-weights.service <<'UNIT'
[Unit]
Description=Weights and compiled artefacts of the model
Requires=llm-disk.service llm-image.service
After=llm-disk.service llm-image.service network-online.target
StartLimitIntervalSec=7200
StartLimitBurst=3

[Service]
Type=oneshot
RemainAfterExit=yes
WorkingDirectory=/opt/llm-fleet
ExecStart=/usr/bin/python3 -m on_instance weights
Restart=on-failure
RestartSec=15
TimeoutStartSec=2h
UNIT
cat >/etc/systemd/system/llm-engine@.service <<'UNIT'
[Unit]
Description=Engine replica %i
Requires=docker.service llm-weights.service
After=docker.service llm-weights.service
Before=llm-worker.service
StartLimitIntervalSec=1800
StartLimitBurst=3

[Service]
WorkingDirectory=/opt/llm-fleet
ExecStartPre=-/usr/bin/docker rm --force engine-%i
ExecStart=/usr/bin/python3 -m on_instance engine %i
ExecStop=/usr/bin/docker stop -t 310 engine-%i
TimeoutStopSec=330
Restart=always
RestartSec=10
UNIT
cat >/etc/systemd/system/llm-ready.service <<'UNIT'
[Unit]
Description=Brings the engines into service, then the worker
After=network-online.target docker.service
Wants=network-online.target

[Service]
Type=oneshot
RemainAfterExit=yes
WorkingDirectory=/opt/llm-fleet
ExecStart=/usr/bin/python3 -m on_instance ready
TimeoutStartSec=infinity

[Install]
WantedBy=multi-user.target
UNIT
cat >/etc/systemd/system/llm-worker.service <<'UNIT'
[Unit]
Description=Queue worker of the instance
Wants=docker.service network-online.target
After=docker.service network-online.target
OnFailure=llm-unhealthy.service
StartLimitIntervalSec=1800
StartLimitBurst=8

[Service]
ExecStartPre=-/usr/bin/docker rm --force worker
ExecStart=/usr/bin/docker run --rm --name worker --network host --read-only --tmpfs /tmp --user 65532 --cap-drop ALL --security-opt no-new-privileges --log-driver none --volume /etc/llm-fleet:/etc/llm-fleet:ro @WORKER_IMAGE@ llm_fleet.worker
ExecStop=/usr/bin/docker stop -t 310 worker
TimeoutStopSec=330
Restart=always
RestartSec=15
UNIT
cat >/etc/systemd/system/llm-unhealthy.service <<'UNIT'
[Unit]
Description=Has the group replace this instance, whose worker does not run

[Service]
Type=oneshot
WorkingDirectory=/opt/llm-fleet
ExecStart=/usr/bin/python3 -m on_instance unhealthy
Restart=on-failure
RestartSec=30
UNIT

aws s3 cp --region 'us-east-1' --only-show-errors '@CODE_URL@' /run/llm-fleet-bundle.zip
python3 -m zipfile -e /run/llm-fleet-bundle.zip /opt/llm-fleet/on_instance

agent=/opt/aws/amazon-cloudwatch-agent/bin/amazon-cloudwatch-agent-ctl
if [[ -x $agent ]]; then
  "$agent" -a fetch-config -m ec2 -s -c file:/etc/llm-fleet/cloudwatch-agent.json || echo 'logs stay on the instance: the agent took no configuration' >&2
fi

systemctl daemon-reload
systemctl enable --now docker.service
systemctl enable llm-ready.service
systemctl start --no-block llm-ready.service
