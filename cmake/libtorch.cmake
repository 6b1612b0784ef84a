# Finds libtorch 2.11, or fetches it, and defines the target `libtorch`.
#
# In this order: CMAKE_PREFIX_PATH (a libtorch folder, or a python site-packages folder), the torch of
# the first python3 in PATH, an earlier download in the build folder, and last `pip install` into it.
# find_package(Torch) is not used: it demands nvcc, which nothing here needs.
#
# Sets LIBTORCH_ROOT (the folder with include/ and lib/) and LIBTORCH_SYSTEM (folders that a cage must
# show for a program linked with it to start).

set(LIBTORCH_VERSION 2.11)
set(_pip_venv ${CMAKE_BINARY_DIR}/libtorch)

# Sets `out` to the torch folder below `prefix`, if there is one of the right version.
function(_libtorch_below prefix out)
  foreach(candidate ${prefix} ${prefix}/torch ${prefix}/../.. ${prefix}/../../..)
    if(EXISTS ${candidate}/include/ATen/ATen.h AND EXISTS ${candidate}/lib/libtorch_cpu.so)
      get_filename_component(candidate ${candidate} REALPATH)
      set(header ${candidate}/include/torch/headeronly/version.h)
      if(NOT EXISTS ${header})  # an older one
        set(header ${candidate}/include/torch/csrc/api/include/torch/version.h)
      endif()
      set(version)
      if(EXISTS ${header})
        file(STRINGS ${header} version REGEX "define TORCH_VERSION_(MAJOR|MINOR) ")
      endif()
      string(REGEX REPLACE "[^0-9;]" "" version "${version}")
      string(REPLACE ";" "." version "${version}")
      if(version VERSION_EQUAL LIBTORCH_VERSION)
        set(${out} ${candidate} PARENT_SCOPE)
        return()
      endif()
      message(STATUS "libtorch: ${candidate} is version '${version}', ${LIBTORCH_VERSION} is needed")
    endif()
  endforeach()
endfunction()

# Sets `out` to the torch folder of a python interpreter, without the seconds that importing costs.
function(_libtorch_of_python python out)
  execute_process(
    COMMAND ${python} -c "import importlib.util as u; print(u.find_spec('torch').submodule_search_locations[0])"
    OUTPUT_VARIABLE folder OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE failed)
  if(NOT failed)
    _libtorch_below(${folder} found)
    set(${out} ${found} PARENT_SCOPE)
  endif()
endfunction()

if(NOT EXISTS "${LIBTORCH_ROOT}/include/ATen/ATen.h")
  set(root)
  string(REPLACE ":" ";" from_environment "$ENV{CMAKE_PREFIX_PATH}")
  foreach(prefix ${CMAKE_PREFIX_PATH} ${from_environment})
    if(NOT root)
      _libtorch_below(${prefix} root)
    endif()
  endforeach()
  find_program(PYTHON3 python3 NO_CACHE)
  if(NOT root AND PYTHON3)
    message(STATUS "libtorch: none in CMAKE_PREFIX_PATH; asking ${PYTHON3}")
    _libtorch_of_python(${PYTHON3} root)
  endif()
  if(NOT root AND EXISTS ${_pip_venv}/bin/python)
    _libtorch_of_python(${_pip_venv}/bin/python root)
  endif()
  if(NOT root)
    if(NOT PYTHON3)
      message(FATAL_ERROR "libtorch: not found, and no python3 to fetch it with; "
                          "apt-get install python3-venv, or set CMAKE_PREFIX_PATH")
    endif()
    message(STATUS "libtorch: no python torch ${LIBTORCH_VERSION}; fetching it with pip into "
                   "${_pip_venv} (5 GB on disk, some minutes, once)")
    execute_process(COMMAND ${PYTHON3} -m venv ${_pip_venv} RESULT_VARIABLE failed)
    if(failed)
      message(FATAL_ERROR "libtorch: `python3 -m venv` failed; apt-get install python3-venv")
    endif()
    execute_process(
      COMMAND ${_pip_venv}/bin/pip install --disable-pip-version-check
              torch==${LIBTORCH_VERSION}.*
      RESULT_VARIABLE failed)
    if(failed)
      message(FATAL_ERROR "libtorch: pip could not install torch; see its message above. With a "
                          "libtorch of your own: cmake --preset demo -DCMAKE_PREFIX_PATH=/its/folder")
    endif()
    _libtorch_of_python(${_pip_venv}/bin/python root)
  endif()
  if(NOT root)
    message(FATAL_ERROR "libtorch: installed, but no usable torch folder found in ${_pip_venv}")
  endif()
  set(LIBTORCH_ROOT ${root} CACHE PATH "The folder with libtorch's include/ and lib/" FORCE)
endif()
message(STATUS "libtorch: ${LIBTORCH_ROOT}")

set(LIBTORCH_INCLUDES ${LIBTORCH_ROOT}/include ${LIBTORCH_ROOT}/include/torch/csrc/api/include)
# libstdc++ first: libtorch 2.11 exports a std::filesystem of its own, whose remove_all crashes.
set(LIBTORCH_LINK -L${LIBTORCH_ROOT}/lib -Wl,-rpath,${LIBTORCH_ROOT}/lib -Wl,--no-as-needed
                  -lstdc++ -ltorch -ltorch_cpu -lc10)
set(LIBTORCH_DEFINITIONS)
if(EXISTS ${LIBTORCH_ROOT}/lib/libtorch_cuda.so)
  # CUDA's headers come with the wheel, in the nvidia packages beside it; a toolkit serves as well.
  find_path(CUDA_INCLUDE cuda_runtime_api.h
            HINTS ${LIBTORCH_ROOT}/../nvidia/cu13/include
                  ${LIBTORCH_ROOT}/../nvidia/cuda_runtime/include
            PATHS /usr/local/cuda/include)
  if(NOT CUDA_INCLUDE)
    message(FATAL_ERROR "libtorch: no cuda_runtime_api.h beside ${LIBTORCH_ROOT} or in "
                        "/usr/local/cuda/include; set -DCUDA_INCLUDE=FOLDER")
  endif()
  list(APPEND LIBTORCH_INCLUDES ${CUDA_INCLUDE})
  list(APPEND LIBTORCH_LINK -ltorch_cuda -lc10_cuda)
  set(LIBTORCH_DEFINITIONS AUTORESEARCH_CUDA)
endif()
list(APPEND LIBTORCH_LINK -Wl,--as-needed)
set(LIBTORCH_SYSTEM ${LIBTORCH_ROOT})
get_filename_component(_nvidia ${LIBTORCH_ROOT}/../nvidia REALPATH)
if(EXISTS ${_nvidia})
  list(APPEND LIBTORCH_SYSTEM ${_nvidia})
endif()

add_library(libtorch INTERFACE)
target_compile_definitions(libtorch INTERFACE ${LIBTORCH_DEFINITIONS})
target_include_directories(libtorch SYSTEM INTERFACE ${LIBTORCH_INCLUDES})
target_link_options(libtorch INTERFACE ${LIBTORCH_LINK})
