# Finds libtorch 2.11 in a torch wheel or a folder of its own (cmake/wheel.cmake), and defines the
# targets `libtorch` and, for its CPU half alone, `libtorch_cpu`. find_package(Torch) is not used: it
# demands nvcc, which nothing here needs.
#
# Sets LIBTORCH_ROOT (the folder with include/ and lib/) and LIBTORCH_SYSTEM (folders that a
# sandbox must show for a program linked with it to start).

function(libtorch_version_of folder out)
  set(header ${folder}/include/torch/headeronly/version.h)
  if(NOT EXISTS ${header})  # an older one
    set(header ${folder}/include/torch/csrc/api/include/torch/version.h)
  endif()
  set(version)
  if(EXISTS ${header})
    file(STRINGS ${header} version REGEX "define TORCH_VERSION_(MAJOR|MINOR) ")
  endif()
  string(REGEX REPLACE "[^0-9;]" "" version "${version}")
  string(REPLACE ";" "." version "${version}")
  set(${out} "${version}" PARENT_SCOPE)
endfunction()

nvidia_driver("" NVIDIA_DRIVER)
torch_arguments("${NVIDIA_DRIVER}" TORCH_ARGUMENTS)
find_wheel(libtorch MODULE torch VERSION 2.11 SIZE "5 GB on disk, some minutes"
           ARGUMENTS ${TORCH_ARGUMENTS} FILES include/ATen/ATen.h lib/libtorch_cpu.so)

set(LIBTORCH_INCLUDES ${LIBTORCH_ROOT}/include ${LIBTORCH_ROOT}/include/torch/csrc/api/include)
# libstdc++ first: libtorch 2.11 exports a std::filesystem of its own, whose remove_all crashes.
# Without new tags the loader looks there before LD_LIBRARY_PATH, which may name another libtorch.
set(LIBTORCH_CPU_LINK -L${LIBTORCH_ROOT}/lib -Wl,--disable-new-dtags,-rpath,${LIBTORCH_ROOT}/lib
                      -Wl,--no-as-needed -lstdc++ -ltorch_cpu -lc10)
set(LIBTORCH_LINK -Wl,--push-state,--no-as-needed -ltorch)  # what the other half adds
set(LIBTORCH_DEFINITIONS)
set(LIBTORCH_SYSTEM)
if(EXISTS ${LIBTORCH_ROOT}/lib/libtorch_cuda.so)
  # The CUDA runtime and NVRTC, which load and compile kernels while a program runs: libtorch's own
  # copies, linked by their full names, for wheels have no development names. None of CUDA's headers
  # is needed (kernels/cuda_api.h), so neither a toolkit nor its version matters. NVRTC looks for
  # its builtins in the system's folders alone, so they are linked too.
  list(APPEND LIBTORCH_LINK -ltorch_cuda -lc10_cuda)
  set(LIBTORCH_DEFINITIONS AUTORESEARCH_CUDA)
  # NVIDIA's wheels of another CUDA may be there too: those of the version that torch names.
  set(_nvidia_folders ${LIBTORCH_ROOT}/../nvidia/cuda_nvrtc/lib
                      ${LIBTORCH_ROOT}/../nvidia/cuda_runtime/lib)
  if(EXISTS ${LIBTORCH_ROOT}/version.py)
    file(STRINGS ${LIBTORCH_ROOT}/version.py _cuda REGEX "^cuda")
  endif()
  if(NOT _cuda MATCHES "'12")
    list(PREPEND _nvidia_folders ${LIBTORCH_ROOT}/../nvidia/cu13/lib)
  endif()
  foreach(name cudart nvrtc nvrtc-builtins)
    string(MAKE_C_IDENTIFIER ${name} _key)
    set(_${_key})
    foreach(folder ${LIBTORCH_ROOT}/lib ${_nvidia_folders})
      file(GLOB _files ${folder}/lib${name}.so* ${folder}/lib${name}-*.so*)
      if(NOT name STREQUAL nvrtc-builtins)
        list(FILTER _files EXCLUDE REGEX builtins)
      endif()
      list(APPEND _${_key} ${_files})
    endforeach()
    if(_${_key})
      list(GET _${_key} 0 _file)
      get_filename_component(_file ${_file} REALPATH)
      get_filename_component(_folder ${_file} DIRECTORY)
      set(_${_key} ${_file} -Wl,-rpath,${_folder})
    endif()
  endforeach()
  if(NOT _cudart)
    message(FATAL_ERROR "libtorch: no CUDA runtime (libcudart.so) beside ${LIBTORCH_ROOT}; install "
                        "torch anew: pip install --force-reinstall torch==2.11.*")
  endif()
  list(APPEND LIBTORCH_LINK ${_cudart})
  # Kernels are loaded by functions that CUDA 12.8 brought; builtins carry the version in their name.
  string(REGEX MATCH "nvrtc-builtins[^;]*so\\.([0-9]+\\.[0-9]+)" _ignored "${_nvrtc_builtins}")
  if(_nvrtc AND CMAKE_MATCH_1 VERSION_GREATER_EQUAL 12.8)
    list(APPEND LIBTORCH_LINK ${_nvrtc} ${_nvrtc_builtins})
    list(APPEND LIBTORCH_DEFINITIONS AUTORESEARCH_NVRTC)
  else()
    message(WARNING "libtorch: no NVRTC of CUDA 12.8 or later beside ${LIBTORCH_ROOT}; "
                    "a GPU will do without fused kernels")
  endif()
endif()
# libtorch's own OpenMP: a second one would bring a second set of threads.
file(GLOB _openmp ${LIBTORCH_ROOT}/lib/libgomp*.so* ${LIBTORCH_ROOT}/../torch.libs/libgomp*.so*)
list(APPEND _openmp -lgomp)
list(GET _openmp 0 _openmp)
if(_openmp MATCHES "^/")  # torch.libs is not on libtorch's own path
  get_filename_component(_folder ${_openmp} DIRECTORY)
  list(APPEND _openmp -Wl,-rpath,${_folder})
  list(APPEND LIBTORCH_SYSTEM ${_folder})
endif()
list(APPEND LIBTORCH_CPU_LINK ${_openmp} -Wl,--as-needed)
set(LIBTORCH_LINK ${LIBTORCH_CPU_LINK} ${LIBTORCH_LINK} -Wl,--pop-state)
list(APPEND LIBTORCH_SYSTEM ${LIBTORCH_ROOT})
get_filename_component(_nvidia ${LIBTORCH_ROOT}/../nvidia REALPATH)
if(EXISTS ${_nvidia})
  list(APPEND LIBTORCH_SYSTEM ${_nvidia})
endif()

add_library(libtorch INTERFACE)
target_compile_definitions(libtorch INTERFACE ${LIBTORCH_DEFINITIONS})
target_include_directories(libtorch SYSTEM INTERFACE ${LIBTORCH_INCLUDES})
target_link_options(libtorch INTERFACE ${LIBTORCH_LINK})
add_library(libtorch_cpu INTERFACE)
target_include_directories(libtorch_cpu SYSTEM INTERFACE ${LIBTORCH_INCLUDES})
target_link_options(libtorch_cpu INTERFACE ${LIBTORCH_CPU_LINK})

# What the compiler will need, in seconds instead of in the middle of a build.
list(TRANSFORM LIBTORCH_DEFINITIONS PREPEND -D OUTPUT_VARIABLE LIBTORCH_CHECK_DEFINITIONS)
try_compile(LIBTORCH_WORKS ${CMAKE_BINARY_DIR}/libtorch_check
  SOURCES ${CMAKE_SOURCE_DIR}/cmake/libtorch_check.cpp
  CMAKE_FLAGS "-DINCLUDE_DIRECTORIES=${CMAKE_SOURCE_DIR};${LIBTORCH_INCLUDES}"
  LINK_OPTIONS ${LIBTORCH_LINK}
  COMPILE_DEFINITIONS ${LIBTORCH_CHECK_DEFINITIONS}
  CXX_STANDARD 20
  OUTPUT_VARIABLE _output)
if(NOT LIBTORCH_WORKS)
  unset(LIBTORCH_WORKS CACHE)
  message(FATAL_ERROR "libtorch: a small program does not compile and link with ${LIBTORCH_ROOT}; "
                      "fetch another: rm -rf ${CMAKE_BINARY_DIR} and the same command in a shell "
                      "without that torch, or install it anew: pip install --force-reinstall "
                      "torch==2.11.*; the compiler said:\n${_output}")
endif()
