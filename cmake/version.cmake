# Writes to OUTPUT the commit of the sources in SOURCE, as git describes it; no file if they are in
# no repository of their own, as those of an unpacked archive.
execute_process(
  COMMAND git --no-optional-locks --git-dir=${SOURCE}/.git --work-tree=${SOURCE}
          describe --always --dirty
  OUTPUT_VARIABLE version ERROR_QUIET RESULT_VARIABLE failed)
file(REMOVE ${OUTPUT})
if(NOT failed)
  file(WRITE ${OUTPUT} ${version})
endif()
