# How a candidate, that is any version of train.cpp, becomes a program. The same commands build
# `train` here and every candidate in the loop: CMake writes them to build/candidate.json, with
# {kit}, {source}, {object} and {program} for paths, and agent runs them on its frozen copy of
# build/kit (agent/lab/recipe.h). They
#   compile   one translation unit against one precompiled header,
#   ungroup   dissolve its COMDAT groups: the linker would otherwise keep one copy of each inline
#             function for candidate and harness together, and it might be the candidate's,
#   localize  every symbol but main, so that a candidate interposes nothing; what it defines in our
#             namespace stays global, so that
#   link      with the harness as an object fails when a function of the harness is redefined.
# The harness's own object is treated likewise: only its public functions are global.

set(KIT ${CMAKE_BINARY_DIR}/kit)
set(KIT_HEADERS harness/candidate.h harness/harness.h kernels/kernels.h)
set(KIT_INCLUDES)
foreach(folder ${LIBTORCH_INCLUDES})
  list(APPEND KIT_INCLUDES -isystem ${folder})
endforeach()
set(KIT_FLAGS -std=c++20 ${NO_UNIQUE} -O1 -Wall -Wextra ${KIT_INCLUDES})

set(CANDIDATE_COMPILE ${CMAKE_CXX_COMPILER} ${KIT_FLAGS} -I{kit} -include harness/candidate.h
                      -c {source} -o {object})
set(UNGROUP ${CMAKE_CXX_COMPILER} -r -nostdlib -Wl,--force-group-allocation)
set(LOCALIZE ${CMAKE_OBJCOPY} --wildcard "--keep-global-symbol=DW.ref.*")
set(CANDIDATE_UNGROUP ${UNGROUP} {object} -o {object}.whole)
set(CANDIDATE_LOCALIZE ${LOCALIZE} --keep-global-symbol=main
                       "--keep-global-symbol=_ZN*12autoresearch*" {object}.whole)
set(KERNEL_SYMBOLS "--keep-global-symbol=_ZN12autoresearch3IdsC*"
                   "--keep-global-symbol=_ZN12autoresearch10CudaKernelC*"
                   "--keep-global-symbol=_ZNK12autoresearch10CudaKernel6launch*")
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS kernels/operations.def)
file(STRINGS kernels/operations.def operations REGEX "^(CHECKED|PLAIN)\\(")
foreach(operation ${operations})
  string(REGEX MATCH "([a-z_]+)\\)" kernel "${operation}")
  set(kernel ${CMAKE_MATCH_1})
  string(LENGTH ${kernel} length)
  list(APPEND KERNEL_SYMBOLS "--keep-global-symbol=_ZN12autoresearch${length}${kernel}E*")
endforeach()
set(HARNESS_LOCALIZE ${LOCALIZE} "--keep-global-symbol=_ZN12autoresearch3Run*"
                     "--keep-global-symbol=_ZNK12autoresearch3Run*"
                     "--localize-symbol=_ZN*12autoresearch3Run4Impl*"
                     "--keep-global-symbol=_ZN12autoresearch8run_main*"
                     ${KERNEL_SYMBOLS})
set(CANDIDATE_LINK ${CMAKE_CXX_COMPILER} {kit}/harness.o {object}.whole -o {program} ${LIBTORCH_LINK}
                   -lcrypto -lspdlog -lfmt -lpthread)

# The headers, and the precompiled set of them.
set(kit_files)
foreach(header ${KIT_HEADERS})
  add_custom_command(OUTPUT ${KIT}/${header}
    COMMAND ${CMAKE_COMMAND} -E copy ${CMAKE_SOURCE_DIR}/${header} ${KIT}/${header}
    DEPENDS ${CMAKE_SOURCE_DIR}/${header} VERBATIM)
  list(APPEND kit_files ${KIT}/${header})
endforeach()
add_custom_command(OUTPUT ${KIT}/harness/candidate.h.gch
  COMMAND ${CMAKE_CXX_COMPILER} ${KIT_FLAGS} -I${KIT} -x c++-header ${KIT}/harness/candidate.h
          -o ${KIT}/harness/candidate.h.gch
  DEPENDS ${KIT}/harness/candidate.h COMMENT "Precompiling the candidate's headers" VERBATIM)
list(APPEND kit_files ${KIT}/harness/candidate.h.gch)

# All trusted objects as one, so that the kit has one file to copy and hash.
set(kit_objects
    "$<TARGET_OBJECTS:common>;$<TARGET_OBJECTS:task_parts>;$<TARGET_OBJECTS:sealed>;$<TARGET_OBJECTS:kernels>;$<TARGET_OBJECTS:harness>")
foreach(loops ${LOOPS_OBJECTS})
  list(APPEND kit_objects "$<TARGET_OBJECTS:${loops}>")
endforeach()
set(kit_objects "$<FILTER:${kit_objects},INCLUDE,\\.o$>")  # without the precompiled header
add_custom_command(OUTPUT ${KIT}/harness.o
  COMMAND ${UNGROUP} -o ${KIT}/harness.o "${kit_objects}"
  COMMAND ${HARNESS_LOCALIZE} ${KIT}/harness.o
  DEPENDS "${kit_objects}" COMMAND_EXPAND_LISTS VERBATIM)
list(APPEND kit_files ${KIT}/harness.o)

# train, from the same argument lists.
foreach(step COMPILE UNGROUP LOCALIZE LINK)
  set(command ${CANDIDATE_${step}})
  string(REPLACE "{kit}" "${KIT}" command "${command}")
  string(REPLACE "{source}" "${CMAKE_SOURCE_DIR}/train.cpp" command "${command}")
  string(REPLACE "{object}" "${CMAKE_BINARY_DIR}/train.o" command "${command}")
  string(REPLACE "{program}" "${CMAKE_BINARY_DIR}/train" command "${command}")
  set(TRAIN_${step} ${command})
endforeach()
add_custom_command(OUTPUT ${CMAKE_BINARY_DIR}/train
  COMMAND ${TRAIN_COMPILE} COMMAND ${TRAIN_UNGROUP} COMMAND ${TRAIN_LOCALIZE} COMMAND ${TRAIN_LINK}
  DEPENDS ${CMAKE_SOURCE_DIR}/train.cpp ${kit_files} COMMENT "Building train" VERBATIM)
add_custom_target(train_program ALL DEPENDS ${CMAKE_BINARY_DIR}/train)

# candidate.json
function(json_array list out)
  set(items)
  foreach(item ${list})
    string(REPLACE "\\" "\\\\" item "${item}")
    string(REPLACE "\"" "\\\"" item "${item}")
    list(APPEND items "\"${item}\"")
  endforeach()
  list(JOIN items ", " items)
  set(${out} "[${items}]" PARENT_SCOPE)
endfunction()
json_array("${CANDIDATE_COMPILE}" compile)
json_array("${CANDIDATE_UNGROUP}" ungroup)
json_array("${CANDIDATE_LOCALIZE}" localize)
json_array("${CANDIDATE_LINK}" link)
json_array("${LIBTORCH_SYSTEM}" system)
set(files)
foreach(file ${kit_files})
  file(RELATIVE_PATH name ${KIT} ${file})
  list(APPEND files "    {\"from\": \"${file}\", \"to\": \"${name}\"}")
endforeach()
list(APPEND files "    {\"from\": \"${CMAKE_BINARY_DIR}/score\", \"to\": \"score\"}")
list(JOIN files ",\n" files)
file(CONFIGURE OUTPUT ${CMAKE_BINARY_DIR}/candidate.json @ONLY CONTENT
"{
  \"edited\": \"train.cpp\",
  \"build\": [
    @compile@,
    @ungroup@,
    @localize@,
    @link@
  ],
  \"files\": [
@files@
  ],
  \"system\": @system@
}
")
