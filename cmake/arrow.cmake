# Finds Arrow and Parquet C++ 26 in the pyarrow wheel (cmake/wheel.cmake), and defines the target
# `arrow`. Sets ARROW_ROOT, which a sandbox must show for a program linked with it to start.

function(arrow_version_of folder out)
  file(STRINGS ${folder}/include/arrow/util/config.h version REGEX "define ARROW_VERSION_MAJOR ")
  string(REGEX REPLACE "[^0-9]" "" version "${version}")
  set(${out} "${version}" PARENT_SCOPE)
endfunction()

set(ARROW_LIBRARIES libparquet.so.2600 libarrow.so.2600)
find_wheel(arrow MODULE pyarrow VERSION 26 SIZE "200 MB on disk"
           FILES include/arrow/util/config.h ${ARROW_LIBRARIES})

add_library(arrow INTERFACE)
target_include_directories(arrow SYSTEM INTERFACE ${ARROW_ROOT}/include)
foreach(library ${ARROW_LIBRARIES})
  target_link_libraries(arrow INTERFACE ${ARROW_ROOT}/${library})
endforeach()
