#!/bin/sh
# Data flows one way between the folders of lib/, and so do includes: a folder may include what stands below it, nothing above.
set -eu
source=$1
bad=0
check() { # folder, the folders it may include
    folder=$1
    shift
    for file in $(find "$source/lib/$folder" -name '*.h' -o -name '*.cc'); do
        for target in $(sed -n 's|^#include "\([a-z_]*\)/.*|\1|p' "$file"); do
            case " $folder $* " in
                *" $target "*) ;;
                *) echo "$file includes $target/: an upward arrow"; bad=1 ;;
            esac
        done
        case $folder in api) continue ;; esac
        for public in $(sed -n 's|^#include <pith/\(.*\)>|\1|p' "$file"); do
            case $public in
                base.h | env.h) ;;
                cuda.h | session.h | sampler.h | tokenizer.h | model.h) case $folder in session | backend | sample | text) ;; *) echo "$file includes <pith/$public>"; bad=1 ;; esac ;;
                *) echo "$file includes <pith/$public>"; bad=1 ;;
            esac
        done
    done
}
check base
check io base
check text base io
check model base io
check usage base
check parallel base usage
check kernels
check backend base io model parallel kernels usage
check session base io model parallel kernels backend usage
check sample base parallel
check api base io text model parallel kernels backend session sample usage
# The plug-in includes its own files and what the seam is made of.
for file in $(find "$source/cuda" -name '*.h' -o -name '*.cc' -o -name '*.cu' -o -name '*.cuh'); do
    for target in $(sed -n 's|^#include "\([a-z_]*\)/.*|\1|p' "$file"); do
        case $target in
            base | io | model | backend | kernels | usage) ;;
            *) echo "$file includes $target/: not of the seam"; bad=1 ;;
        esac
    done
done
for header in $(sed -n 's|^#include "kernels/\(.*\)"|\1|p' "$source"/cuda/*.h "$source"/cuda/*.cc); do
    [ -e "$source/cuda/kernels/$header" ] || { echo "cuda/ includes lib/kernels/$header: the CPU's"; bad=1; }
done
exit $bad
