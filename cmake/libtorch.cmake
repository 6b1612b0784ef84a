# Finds libtorch 2.11 in a torch wheel or a folder of its own (cmake/wheel.cmake), and defines the
# target `libtorch`. find_package(Torch) is not used: it demands nvcc, which nothing here needs.
#
# Sets LIBTORCH_ROOT (the folder with include/ and lib/) and LIBTORCH_SYSTEM (folders that a cage must
# show for a program linked with it to start).

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

  # NVRTC and the CUDA runtime, which compile and load kernels while a program runs: libtorch's own
  # copies, linked by their full names, for wheels have no development names. NVRTC looks for its
  # builtins in the system's folders alone, so they are linked too. From CUDA 12.8 on.
  find_path(NVRTC_INCLUDE nvrtc.h
            HINTS ${CUDA_INCLUDE} ${LIBTORCH_ROOT}/../nvidia/cuda_nvrtc/include)
  set(_nvrtc)
  foreach(name nvrtc nvrtc-builtins cudart)
    set(files)
    foreach(folder ${LIBTORCH_ROOT}/lib ${LIBTORCH_ROOT}/../nvidia/cu13/lib
                   ${LIBTORCH_ROOT}/../nvidia/cuda_nvrtc/lib
                   ${LIBTORCH_ROOT}/../nvidia/cuda_runtime/lib ${CUDA_INCLUDE}/../lib64)
      file(GLOB more ${folder}/lib${name}.so* ${folder}/lib${name}-*.so*)
      if(NOT name STREQUAL nvrtc-builtins)
        list(FILTER more EXCLUDE REGEX builtins)
      endif()
      list(APPEND files ${more})
    endforeach()
    if(files)
      list(GET files 0 file)
      get_filename_component(folder ${file} DIRECTORY)
      get_filename_component(folder ${folder} REALPATH)
      get_filename_component(file ${file} NAME)
      list(APPEND _nvrtc -Wl,-rpath,${folder} ${folder}/${file})
    else()
      set(NVRTC_INCLUDE NVRTC_INCLUDE-NOTFOUND)
    endif()
  endforeach()
  file(STRINGS ${CUDA_INCLUDE}/cuda_runtime_api.h version REGEX "define CUDART_VERSION")
  string(REGEX REPLACE "[^0-9]" "" version "${version}")
  if(NVRTC_INCLUDE AND version GREATER_EQUAL 12080)
    list(APPEND LIBTORCH_INCLUDES ${NVRTC_INCLUDE})
    list(APPEND LIBTORCH_LINK ${_nvrtc})
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
list(APPEND LIBTORCH_LINK ${_openmp} -Wl,--as-needed)
set(LIBTORCH_SYSTEM ${LIBTORCH_ROOT})
get_filename_component(_nvidia ${LIBTORCH_ROOT}/../nvidia REALPATH)
if(EXISTS ${_nvidia})
  list(APPEND LIBTORCH_SYSTEM ${_nvidia})
endif()

add_library(libtorch INTERFACE)
target_compile_definitions(libtorch INTERFACE ${LIBTORCH_DEFINITIONS})
target_include_directories(libtorch SYSTEM INTERFACE ${LIBTORCH_INCLUDES})
target_link_options(libtorch INTERFACE ${LIBTORCH_LINK})
