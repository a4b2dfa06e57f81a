#!/bin/sh
# bring.sh FOLDER PYTHON: brings what Beam's engines run on into FOLDER/VERSION, of the version of PYTHON's apache-beam.
#   prism                  Beam's own local engine, and
#   boot                   what starts a worker in Beam's containers: both compiled from Beam's Go module
#   flink-job-server.jar   Flink with Beam's job server, from Maven
# What can't be had is said and is no error: the tests on it are skipped.
set -u
version=$("$2" -c 'import importlib.metadata; print(importlib.metadata.version("apache-beam"))') || exit 1
mkdir -p "$1/$version" && cd "$1/$version" || exit 1

compile() { # NAME PACKAGE, which `go install` names by its last part
    [ -e "$1" ] && return
    command -v go >/dev/null || { echo "no $1: there is no go on the PATH"; return; }
    if GOBIN="$PWD" go install "github.com/apache/beam/sdks/v2/$2@v$version"; then
        [ "$1" = "${2##*/}" ] || mv "${2##*/}" "$1"
        echo "$PWD/$1"
    else
        echo "no $1: go install failed, see above"
    fi
}

flink() {
    jar=flink-job-server.jar
    [ -e $jar ] && return
    command -v mvn >/dev/null || { echo "no $jar: there is no mvn on the PATH"; return; }
    flink=$("$1" -c 'from apache_beam.options.pipeline_options import FlinkRunnerOptions as options
print(options.PUBLISHED_FLINK_VERSIONS[-1])')
    artifact=beam-runners-flink-$flink-job-server
    if said=$(mvn --batch-mode --update-snapshots -Dstyle.color=never dependency:copy \
        -Dartifact="org.apache.beam:$artifact:$version" \
        -DoutputDirectory="$PWD" -Dmdep.stripVersion=true 2>&1); then
        mv "$artifact.jar" $jar
        echo "$PWD/$jar"
    else
        echo "no $jar: $(echo "$said" | grep -m 1 'ERROR')"
    fi
}

compile prism go/cmd/prism
compile boot python/container
flink "$2"
