# How jobs are started: Kaldi's interface, CMD [options] JOB=1:N LOG.JOB.log command with JOB ...
# run_jobs.py runs them on this machine. On a cluster put Kaldi's own scripts in its place, which
# path.sh finds when KALDI_ROOT is set:
#   export train_cmd="slurm.pl --gpu 4 --mem 64G" score_cmd="slurm.pl --gpu 1" decode_cmd=slurm.pl
#   export train_cmd="queue.pl --gpu 4" score_cmd="queue.pl --mem 4G" decode_cmd="queue.pl --mem 4G"
export train_cmd=${train_cmd:-recipes/shared/run_jobs.py}           # LM training and pruning
export score_cmd=${score_cmd:-recipes/shared/run_jobs.py}           # LM scores, rescoring
export decode_cmd=${decode_cmd:-recipes/shared/run_jobs.py}         # first pass, conversion
