"""What a network looks at: recorded attention, followed back to the clip, and Grad-CAM.

``look(network, video)`` is the entry. A network takes part by :meth:`VideoModel.attention_map`;
every network with a convolutional feature map takes part by Grad-CAM without any code.
"""

from slowfast.models.looks.look import METHODS, Look, TokenPaths, look

__all__ = ["METHODS", "Look", "TokenPaths", "look"]
