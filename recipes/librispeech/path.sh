# What the stages find in PATH, and how much each process takes of the machine.
if [ -n "${KALDI_ROOT:-}" ]; then
  export PATH=$KALDI_ROOT/egs/wsj/s5/utils/parallel:$KALDI_ROOT/egs/wsj/s5/utils:$PATH
fi
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} OMP_WAIT_POLICY=PASSIVE
export PYTHONUNBUFFERED=1 PYTHONHASHSEED=0 LC_ALL=C.UTF-8
