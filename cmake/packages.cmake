# What the system provides; each missing package is named with the command that installs it.

macro(require_package name package)
  find_package(${name} ${ARGN} QUIET)
  if(NOT ${name}_FOUND)
    message(FATAL_ERROR "${name} is missing; apt-get install ${package}")
  endif()
endmacro()

require_package(Threads build-essential)
require_package(OpenSSL libssl-dev COMPONENTS Crypto)
require_package(CURL libcurl4-openssl-dev)
require_package(spdlog libspdlog-dev)
require_package(fmt libfmt-dev)  # the one that spdlog is made for
require_package(nlohmann_json nlohmann-json3-dev)
require_package(CLI11 libcli11-dev)
require_package(tomlplusplus libtomlplusplus-dev)
require_package(ZLIB zlib1g-dev)
require_package(PkgConfig pkg-config)
macro(require_module name module package)
  pkg_check_modules(${name} IMPORTED_TARGET GLOBAL QUIET ${module})
  if(NOT ${name}_FOUND)
    message(FATAL_ERROR "${name} is missing; apt-get install ${package}")
  endif()
endmacro()

require_module(ZSTD libzstd libzstd-dev)
require_module(RAPIDJSON RapidJSON rapidjson-dev)
