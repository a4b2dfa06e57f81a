#!/bin/sh
# bring.sh FOLDER PYTHON: brings what Beam's runners run on into FOLDER/VERSION, of the version of PYTHON's apache-beam.
#   prism                  Beam's own local runner, and
#   boot                   what starts a worker in Beam's containers: both compiled from Beam's Go module
#   flink-job-server.jar   Flink with Beam's job server, from Maven
# What can't be had is said and is no error: the tests on it are skipped.
set -u
python=$2
version=$("$python" -c 'import importlib.metadata; print(importlib.metadata.version("apache-beam"))') || exit 1
mkdir -p "$1/$version" && folder=$(cd "$1/$version" && pwd) || exit 1

compile() { # NAME PACKAGE, which `go install` names by its last part
    [ -e "$folder/$1" ] && return
    command -v go >/dev/null || { echo "no $1: there is no go on the PATH"; return; }
    if GOBIN="$folder" go install "github.com/apache/beam/sdks/v2/$2@v$version"; then
        [ "$1" = "${2##*/}" ] || mv "$folder/${2##*/}" "$folder/$1"
        echo "$folder/$1"
    else
        echo "no $1: go install failed, see above"
    fi
}

fetch_flink() { # NAME
    [ -e "$folder/$1" ] && return
    command -v mvn >/dev/null || { echo "no $1: there is no mvn on the PATH"; return; }
    flink=$("$python" -c 'from apache_beam.options.pipeline_options import FlinkRunnerOptions as options
print(options.PUBLISHED_FLINK_VERSIONS[-1])')
    artifact=beam-runners-flink-$flink-job-server
    if said=$(mvn --batch-mode --update-snapshots -Dstyle.color=never dependency:copy \
        -Dartifact="org.apache.beam:$artifact:$version" -DoutputDirectory="$folder" -Dmdep.stripVersion=true 2>&1); then
        mv "$folder/$artifact.jar" "$folder/$1"
        echo "$folder/$1"
    else
        echo "no $1: $(echo "$said" | grep -m 1 ERROR)"
    fi
}

compile prism go/cmd/prism
compile boot python/container
fetch_flink flink-job-server.jar
