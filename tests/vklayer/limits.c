// A Vulkan layer for tests: devices say that they take 256 bytes of push constants, which the
// lavapipe of Mesa 22.3 does (it keeps 512 and copies as many as a pipeline has) while it promises
// 128. It lets the host's shaders of 220 bytes run there.
#include <string.h>
#include <vulkan/vk_layer.h>

static PFN_vkGetInstanceProcAddr           next;
static PFN_vkGetPhysicalDeviceProperties2  next_properties2;

static VKAPI_ATTR void VKAPI_CALL properties2(VkPhysicalDevice device, VkPhysicalDeviceProperties2 * p) {
    next_properties2(device, p);
    p->properties.limits.maxPushConstantsSize = 256;
}

static VKAPI_ATTR VkResult VKAPI_CALL create_instance(const VkInstanceCreateInfo * info, const VkAllocationCallbacks * alloc, VkInstance * instance) {
    VkLayerInstanceCreateInfo * link = (VkLayerInstanceCreateInfo *) info->pNext;
    while (link && !(link->sType == VK_STRUCTURE_TYPE_LOADER_INSTANCE_CREATE_INFO && link->function == VK_LAYER_LINK_INFO)) {
        link = (VkLayerInstanceCreateInfo *) link->pNext;
    }
    if (!link) {
        return VK_ERROR_INITIALIZATION_FAILED;
    }
    next = link->u.pLayerInfo->pfnNextGetInstanceProcAddr;
    link->u.pLayerInfo = link->u.pLayerInfo->pNext; // for the layer below

    VkResult res = ((PFN_vkCreateInstance) next(NULL, "vkCreateInstance"))(info, alloc, instance);
    if (res == VK_SUCCESS) {
        next_properties2 = (PFN_vkGetPhysicalDeviceProperties2) next(*instance, "vkGetPhysicalDeviceProperties2");
    }
    return res;
}

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL get_proc(VkInstance instance, const char * name) {
    if (strcmp(name, "vkGetInstanceProcAddr") == 0) {
        return (PFN_vkVoidFunction) get_proc;
    }
    if (strcmp(name, "vkCreateInstance") == 0) {
        return (PFN_vkVoidFunction) create_instance;
    }
    if (strcmp(name, "vkGetPhysicalDeviceProperties2") == 0 || strcmp(name, "vkGetPhysicalDeviceProperties2KHR") == 0) {
        return (PFN_vkVoidFunction) properties2;
    }
    return next ? next(instance, name) : NULL;
}

VK_LAYER_EXPORT VKAPI_ATTR VkResult VKAPI_CALL vkNegotiateLoaderLayerInterfaceVersion(VkNegotiateLayerInterface * v) {
    v->loaderLayerInterfaceVersion = 2;
    v->pfnGetInstanceProcAddr       = get_proc;
    v->pfnGetDeviceProcAddr         = NULL; // it changes nothing of a device
    v->pfnGetPhysicalDeviceProcAddr = NULL;
    return VK_SUCCESS;
}
