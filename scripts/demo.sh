#!/usr/bin/env bash
# The main job on a simulated region: scenes -> tiles -> encoder -> head -> map. Each command prints itself first.
# Run again after an interruption, it continues.    scripts/demo.sh OUT MINUTES [SIZE_KM]
set -euo pipefail
out=$1 minutes=$2 size=${3:-}
export GEOSSL_HOME="${GEOSSL_HOME:-$PWD/.geossl}"
geossl="${BIN:-.venv/bin}/geossl"
step() { printf '\n$ geossl %s\n' "$*"; "$geossl" "$@"; }

step sandbox create malardalen --out "$out/sandbox" ${size:+--size-km "$size"}
step cube status --region malardalen --map "$out/scenes.png"
step pretrain --region malardalen --max-minutes "$minutes" --out "$out/encoder"
step finetune --task drought --encoder "$out/encoder" --labels "$out/sandbox/labels/drought.gpkg" \
  --region malardalen --out "$out/head"
step map --head "$out/head" --region malardalen --period 2018-07 --out "$out/map"

cat <<END

Done. Look at
  scenes in the cube      $out/scenes.png
  simulated landscape     $out/sandbox/preview.png
  pretraining             $out/encoder/report.html
  drought head            $out/head/report.html
  drought map, July 2018  $out/map/quicklook.png (COG and QGIS style beside it)
END
