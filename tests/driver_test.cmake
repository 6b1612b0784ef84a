# cmake -DSOURCE=... -DFOLDER=... -P driver_test.cmake: drivers of several ages, and what pip would
# be given for them.
include(${SOURCE}/cmake/driver.cmake)

function(expect actual expected what)
  if(NOT "${actual}" STREQUAL "${expected}")
    message(SEND_ERROR "${what}: '${actual}', expected '${expected}'")
  endif()
endfunction()

set(cu128 "--index-url;https://download.pytorch.org/whl/cu128")
foreach(driver 525.60.13 535.183 550.54.14 575.57.08 579.99)
  torch_arguments(${driver} arguments)
  expect("${arguments}" "${cu128}" "driver ${driver}")
endforeach()
foreach(driver 580.65.06 581 590.44.01 1000.1 "")
  torch_arguments("${driver}" arguments)
  expect("${arguments}" "" "driver '${driver}'")
endforeach()
torch_arguments(470.256.02 arguments)  # and a warning
expect("${arguments}" "" "driver 470")

file(REMOVE_RECURSE ${FOLDER})
file(MAKE_DIRECTORY ${FOLDER})
nvidia_driver(${FOLDER} driver)
expect("${driver}" "" "no driver")

# Under WSL.
set(smi ${FOLDER}/usr/lib/wsl/lib/nvidia-smi)
file(WRITE ${smi} "#!/bin/sh\necho 566.36\necho 566.36\n")
file(CHMOD ${smi} PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE)
nvidia_driver(${FOLDER} driver)
expect("${driver}" "566.36" "nvidia-smi")
file(WRITE ${smi} "#!/bin/sh\necho 'NVIDIA-SMI has failed on 1.2'\nexit 9\n")
nvidia_driver(${FOLDER} driver)
expect("${driver}" "" "nvidia-smi without a driver")

file(WRITE ${FOLDER}/proc/driver/nvidia/version
     "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build\nGCC 12.2\n")
nvidia_driver(${FOLDER} driver)
expect("${driver}" "570.86.15" "the kernel module")
file(REMOVE_RECURSE ${FOLDER})
