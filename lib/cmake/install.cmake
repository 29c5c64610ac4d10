# What `cmake --install` puts where: headers, both libraries, a CMake package and pith.pc. All paths are relative: the tree can be moved.
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/Pith)

install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/pith DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h" PATTERN "*.hpp")
install(TARGETS pith pith_static EXPORT PithTargets
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
  RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(EXPORT PithTargets NAMESPACE Pith:: DESTINATION ${package_dir})

configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/PithConfig.cmake.in PithConfig.cmake INSTALL_DESTINATION ${package_dir})
# The ABI only grows within a major version, 0 included.
write_basic_package_version_file(PithConfigVersion.cmake COMPATIBILITY SameMajorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/PithConfig.cmake ${CMAKE_CURRENT_BINARY_DIR}/PithConfigVersion.cmake DESTINATION ${package_dir})

file(RELATIVE_PATH PITH_PC_PREFIX "/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/")
configure_file(${CMAKE_CURRENT_LIST_DIR}/pith.pc.in pith.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/pith.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
install(FILES ${PROJECT_SOURCE_DIR}/LICENSE ${PROJECT_SOURCE_DIR}/README.md DESTINATION ${CMAKE_INSTALL_DOCDIR})
