# Which libtorch runs on the NVIDIA driver of this machine.

# Sets `out` to the version of the driver of the system whose root folder is `root`; empty if there
# is none. WSL has no kernel module to ask, but nvidia-smi.
function(nvidia_driver root out)
  set(version)
  if(EXISTS ${root}/proc/driver/nvidia/version)
    file(STRINGS ${root}/proc/driver/nvidia/version lines LIMIT_COUNT 1)
    string(REGEX MATCH "[0-9]+\\.[0-9]+(\\.[0-9]+)?" version "${lines}")
  elseif(EXISTS ${root}/usr/lib/wsl/lib/nvidia-smi)
    execute_process(
      COMMAND ${root}/usr/lib/wsl/lib/nvidia-smi --query-gpu=driver_version --format=csv,noheader
      OUTPUT_VARIABLE lines ERROR_QUIET)
    string(REGEX MATCH "^[0-9]+\\.[0-9]+(\\.[0-9]+)?" version "${lines}")
  endif()
  set(${out} "${version}" PARENT_SCOPE)
endfunction()

# Sets `out` to what pip needs to know beside the package's name. PyPI's torch 2.11 is for CUDA 13,
# which drivers from 580 on run. That for CUDA 12.8 runs on those from 525 on and is the oldest with
# which NVRTC compiles our kernels; older drivers run no torch 2.11, so they get PyPI's, for the CPU.
function(torch_arguments driver out)
  set(arguments)
  if(driver AND driver VERSION_LESS 525)
    message(WARNING "NVIDIA driver ${driver} is too old for libtorch 2.11, which will use the CPU "
                    "alone; update the driver to 525 or later for CUDA 12, 580 for CUDA 13")
  elseif(driver AND driver VERSION_LESS 580)
    set(arguments --index-url https://download.pytorch.org/whl/cu128)
  endif()
  set(${out} "${arguments}" PARENT_SCOPE)
endfunction()
